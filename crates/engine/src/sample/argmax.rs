/// Numbers that are looked at before it is asked where the highest is.
const BLOCK: usize = 1024;
/// What the compiler makes vectors of.
const LANES: usize = 16;

/// The token of the highest logit; of equals, the lowest id. 0 without logits.
///
/// # Errors
/// The first token whose logit is not finite.
pub fn argmax(logits: &[f32]) -> Result<u32, u32> {
    let (mut most, mut at) = (f32::NEG_INFINITY, 0);
    for (i, block) in logits.chunks(BLOCK).enumerate() {
        let (mut highest, mut odd) = ([f32::NEG_INFINITY; LANES], [false; LANES]);
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
            for ((highest, odd), &x) in highest.iter_mut().zip(&mut odd).zip(chunk) {
                *highest = if x > *highest { x } else { *highest };
                *odd |= !x.is_finite();
            }
        }
        if odd.contains(&true) {
            let inside = block.iter().position(|x| !x.is_finite()).expect("there is one");
            return Err((i * BLOCK + inside) as u32);
        }
        let highest = highest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        if highest > most {
            (most, at) = (highest, i * BLOCK);
        }
    }
    let inside = logits[at..].iter().position(|&x| x == most).unwrap_or(0);
    Ok((at + inside) as u32)
}
