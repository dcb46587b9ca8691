//! The alphabet of byte-level BPE, in which the names of tokens are written: a printable character for each byte (GPT-2's
//! `bytes_to_unicode`).

/// The character of each byte: itself if it is printable, otherwise the next one from U+0100 on.
pub(crate) static ALPHABET: [char; 256] = TABLES.0;

/// The bytes of the characters from U+0100 on.
static SHIFTED: [u8; 68] = TABLES.1;

const TABLES: ([char; 256], [u8; 68]) = {
    let (mut alphabet, mut shifted) = (['\0'; 256], [0; 68]);
    let (mut byte, mut next) = (0u8, 0u8);
    loop {
        if is_plain(byte) {
            alphabet[byte as usize] = byte as char;
        } else {
            alphabet[byte as usize] = match char::from_u32(0x100 + next as u32) {
                Some(c) => c,
                None => panic!("not a character"),
            };
            shifted[next as usize] = byte;
            next += 1;
        }
        if byte == 0xFF {
            break (alphabet, shifted);
        }
        byte += 1;
    }
};

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// Appends the bytes of a token's name. Characters outside the alphabet are kept.
pub(crate) fn decode(name: &str, bytes: &mut Vec<u8>) {
    for c in name.chars() {
        let code = u32::from(c);
        let plain = u8::try_from(code).ok().filter(|&byte| is_plain(byte));
        let shifted = || SHIFTED.get(code.checked_sub(0x100)? as usize).copied();
        match plain.or_else(shifted) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
