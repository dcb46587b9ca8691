//! What holds for every kernel: it agrees with the definition of its format, and all instruction sets, thread counts and batches
//! give the same bits.

mod common;

use common::{Random, bits, machines};
