//! The instructions that the program was compiled to need.

/// See [`crate::missing_features`]. `is_x86_feature_detected!` is of no use here: it trusts the compiler's flags.
#[cfg(target_arch = "x86_64")]
pub(crate) fn missing_features() -> Vec<&'static str> {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let (basic, extended) = (__cpuid(1), __cpuid_count(7, 0));
    let has = |register: u32, bit: u32| register >> bit & 1 == 1;
    let needed = [
        ("avx", cfg!(target_feature = "avx"), has(basic.ecx, 28)),
        ("fma", cfg!(target_feature = "fma"), has(basic.ecx, 12)),
        ("f16c", cfg!(target_feature = "f16c"), has(basic.ecx, 29)),
        ("avx2", cfg!(target_feature = "avx2"), has(extended.ebx, 5)),
        ("avx512f", cfg!(target_feature = "avx512f"), has(extended.ebx, 16)),
        ("avx512dq", cfg!(target_feature = "avx512dq"), has(extended.ebx, 17)),
        ("avx512bw", cfg!(target_feature = "avx512bw"), has(extended.ebx, 30)),
        ("avx512vl", cfg!(target_feature = "avx512vl"), has(extended.ebx, 31)),
        ("avx512vnni", cfg!(target_feature = "avx512vnni"), has(extended.ecx, 11)),
        ("avx512vbmi", cfg!(target_feature = "avx512vbmi"), has(extended.ecx, 1)),
    ];
    needed.into_iter().filter(|&(_, needed, there)| needed && !there).map(|(name, ..)| name).collect()
}

/// See [`crate::missing_features`]. `is_aarch64_feature_detected!` trusts the compiler's flags, too;
/// Linux reports what the CPU has.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
pub(crate) fn missing_features() -> Vec<&'static str> {
    // Pairs of a key and a value, the two masks of the CPU's features among them: `AT_HWCAP` and `AT_HWCAP2` of getauxval(3).
    let Ok(pairs) = std::fs::read("/proc/self/auxv") else { return Vec::new() };
    let pairs = pairs.as_chunks::<16>().0.iter().map(|pair| u128::from_ne_bytes(*pair));
    let (mut first, mut second) = (0, 0);
    for pair in pairs {
        match pair as u64 {
            16 => first = (pair >> 64) as u64,
            26 => second = (pair >> 64) as u64,
            _ => (),
        }
    }
    let has = |mask: u64, bit: u32| mask >> bit & 1 == 1;
    let needed = [
        ("lse", cfg!(target_feature = "lse"), has(first, 8)),
        ("fp16", cfg!(target_feature = "fp16"), has(first, 10)),
        ("dotprod", cfg!(target_feature = "dotprod"), has(first, 20)),
        ("sve", cfg!(target_feature = "sve"), has(first, 22)),
        ("sve2", cfg!(target_feature = "sve2"), has(second, 1)),
        ("i8mm", cfg!(target_feature = "i8mm"), has(second, 13)),
        ("bf16", cfg!(target_feature = "bf16"), has(second, 14)),
    ];
    needed.into_iter().filter(|&(_, needed, there)| needed && !there).map(|(name, ..)| name).collect()
}

/// See [`crate::missing_features`]: none is known here.
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_os = "linux"))))]
pub(crate) fn missing_features() -> Vec<&'static str> {
    Vec::new()
}
