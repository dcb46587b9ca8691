//! Encoders with the instructions of their caller.

use super::*;

macro_rules! encoders {
    ($($name:literal $encode:path),* $(,)?) => {
        /// What [`Format`]'s `encode` does, compiled into the caller with the instructions that it may use.
        #[inline(always)]
        pub fn encode(format: &Format, weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
            match format.name {
                $($name => $encode(weights, importance, out),)*
                _ => (format.encode)(weights, importance, out),
            }
        }
    };
}

encoders! {
    "Q8_0" q8_0::encode, "Q4_0" q4_0::encode, "Q4_1" q4_1::encode, "Q5_0" q5_0::encode_0, "Q5_1" q5_0::encode_1,
    "Q2_K" q2_k::encode, "Q3_K" q3_k::encode, "Q4_K" q4_k::encode, "Q5_K" q5_k::encode, "Q6_K" q6_k::encode,
    "IQ4_NL" iq4::encode_nl, "IQ4_XS" iq4::encode_xs,
    "IQ3_S" grid::encode::<iq3::Iq3S, 32, 110>, "IQ3_XXS" grid::encode::<iq3::Iq3Xxs, 32, 98>,
    "IQ2_S" grid::encode::<iq2::Iq2S, 16, 82>, "IQ2_XS" grid::encode::<iq2::Iq2Xs, 16, 74>,
    "IQ2_XXS" grid::encode::<iq2::Iq2Xxs, 32, 66>,
    "IQ1_M" grid::encode::<iq1::Iq1M, 16, 56>, "IQ1_S" grid::encode::<iq1::Iq1S, 32, 50>,
    "IQ2_K" iqk::encode::<iqk::Iq2K, 76>, "IQ3_K" iqk::encode::<iqk::Iq3K, 110>, "IQ4_K" iqk::encode::<iqk::Iq4K, 144>,
    "IQ5_K" iqk::encode::<iqk::Iq5K, 176>, "IQ6_K" iqk::encode::<iqk::Iq6K, 212>, "IQ4_KS" iqk::encode::<iqk::Iq4Ks, 136>,
    "MXFP4" fp4::encode_mxfp4, "NVFP4" fp4::encode_nvfp4,
    "TQ1_0" tq1_0::encode, "TQ2_0" tq2_0::encode, "I2_S" i2_s::encode,
}
