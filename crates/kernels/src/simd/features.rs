//! The instructions that the program was compiled to need.
//!
//! Compilers use them anywhere, so the check itself is written with the few that every CPU has, and makes nothing of several words: no
//! string is built, no list filtered. `is_x86_feature_detected!` and its like are of no use here: they trust the compiler's flags.

/// Features by name: whether the program needs them, the word of [`missing`] that they are in, and their bit in it.
type Feature = (&'static str, bool, usize, u32);

macro_rules! features {
    ($($name:tt $word:literal $bit:literal),* $(,)?) => { &[$(($name, cfg!(target_feature = $name), $word, $bit)),*] };
}

/// Words: ECX of leaf 1, EBX and ECX of leaf 7, ECX of leaf 0x80000001.
#[cfg(target_arch = "x86_64")]
const FEATURES: &[Feature] = features! {
    "sse3" 0 0, "pclmulqdq" 0 1, "ssse3" 0 9, "fma" 0 12, "sse4.1" 0 19, "sse4.2" 0 20, "movbe" 0 22, "popcnt" 0 23, "aes" 0 25, "avx" 0 28,
    "f16c" 0 29, "rdrand" 0 30,
    "bmi1" 1 3, "avx2" 1 5, "bmi2" 1 8, "avx512f" 1 16, "avx512dq" 1 17, "rdseed" 1 18, "adx" 1 19, "avx512ifma" 1 21, "avx512cd" 1 28,
    "sha" 1 29, "avx512bw" 1 30, "avx512vl" 1 31,
    "avx512vbmi" 2 1, "avx512vbmi2" 2 6, "gfni" 2 8, "vaes" 2 9, "vpclmulqdq" 2 10, "avx512vnni" 2 11, "avx512bitalg" 2 12,
    "avx512vpopcntdq" 2 14,
    "lzcnt" 3 5,
};

/// Words: `AT_HWCAP` and `AT_HWCAP2` of getauxval(3).
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
const FEATURES: &[Feature] = features! {
    "aes" 0 3, "sha2" 0 6, "crc" 0 7, "lse" 0 8, "fp16" 0 10, "rdm" 0 12, "jsconv" 0 13, "fcma" 0 14, "rcpc" 0 15, "dpb" 0 16, "sha3" 0 17,
    "dotprod" 0 20, "sve" 0 22, "fhm" 0 23, "rcpc2" 0 26, "flagm" 0 27,
    "sve2" 1 1, "i8mm" 1 13, "bf16" 1 14,
};

/// None is known here.
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_os = "linux"))))]
const FEATURES: &[Feature] = features! {};

/// The bits of a word that the program needs.
const fn needed(word: usize) -> u32 {
    let (mut mask, mut i) = (0, 0);
    while i < FEATURES.len() {
        if FEATURES[i].1 && FEATURES[i].2 == word {
            mask |= 1 << FEATURES[i].3;
        }
        i += 1;
    }
    mask
}

/// Not zero if this CPU lacks a feature that the program needs.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn missing() -> u32 {
    let missing: u32;
    // SAFETY: `cpuid` changes the registers that are named, and RBX, which is restored. A leaf that this CPU does not have counts as zeros.
    unsafe {
        core::arch::asm!(
            "push rbx",
            "xor esi, esi",
            "mov eax, 1",
            "cpuid",
            "not ecx",
            "and ecx, {word0}",
            "or esi, ecx",
            "xor eax, eax",
            "cpuid",
            "cmp eax, 7",
            "mov eax, 0",
            "mov ebx, 0",
            "mov ecx, 0",
            "jb 2f",
            "mov eax, 7",
            "cpuid",
            "2:",
            "not ebx",
            "and ebx, {word1}",
            "or esi, ebx",
            "not ecx",
            "and ecx, {word2}",
            "or esi, ecx",
            "mov eax, 0x80000001",
            "cpuid",
            "not ecx",
            "and ecx, {word3}",
            "or esi, ecx",
            "pop rbx",
            word0 = const needed(0) as i32,
            word1 = const needed(1) as i32,
            word2 = const needed(2) as i32,
            word3 = const needed(3) as i32,
            out("esi") missing,
            out("eax") _,
            out("ecx") _,
            out("edx") _,
        );
    }
    missing
}

#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
#[inline(always)]
fn missing() -> u32 {
    unsafe extern "C" {
        safe fn getauxval(key: core::ffi::c_ulong) -> core::ffi::c_ulong;
    }
    (needed(0) & !(getauxval(16) as u32)) | (needed(1) & !(getauxval(26) as u32))
}

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_os = "linux"))))]
fn missing() -> u32 {
    needed(0)
}

const HEAD: &str = "error: this program was compiled for CPUs with";
const TAIL: &str = ", not all of which this one has\n\
    hint: use a portable build, or compile without `-C target-cpu` and `-C target-feature`\n";

/// The message, made when the program is compiled: its bytes and how many they are.
const MESSAGE: ([u8; 1024], usize) = {
    let (mut text, mut len, mut first, mut i) = ([0; 1024], 0, true, 0);
    (text, len) = append(text, len, HEAD);
    while i < FEATURES.len() {
        if FEATURES[i].1 {
            (text, len) = append(text, len, if first { " " } else { ", " });
            (text, len) = append(text, len, FEATURES[i].0);
            first = false;
        }
        i += 1;
    }
    append(text, len, TAIL)
};

const fn append(mut text: [u8; 1024], len: usize, more: &str) -> ([u8; 1024], usize) {
    let mut i = 0;
    while i < more.len() {
        text[len + i] = more.as_bytes()[i];
        i += 1;
    }
    (text, len + i)
}

/// Ends the program with status 1 and a message if this CPU lacks features that it was compiled to need. To be called first in `main`, which
/// calls a function that is not inlined for all the rest.
#[inline(never)]
pub fn require_cpu_features() {
    if missing() != 0 {
        refuse();
    }
}

#[cfg(unix)]
#[cold]
#[inline(never)]
fn refuse() -> ! {
    unsafe extern "C" {
        fn write(file: core::ffi::c_int, bytes: *const u8, len: usize) -> isize;
        fn _exit(status: core::ffi::c_int) -> !;
    }
    static TEXT: [u8; 1024] = MESSAGE.0;
    // SAFETY: the bytes are there. The standard library would use the features that are missing.
    unsafe {
        write(2, TEXT.as_ptr(), MESSAGE.1);
        _exit(1)
    }
}

#[cfg(not(unix))]
#[cold]
fn refuse() -> ! {
    eprint!("{}", String::from_utf8_lossy(&MESSAGE.0[..MESSAGE.1]));
    std::process::exit(1)
}
