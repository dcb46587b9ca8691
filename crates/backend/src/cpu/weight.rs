//! Weights of the CPU: where their bytes go, and the checks on the way.

use super::{Cpu, CpuOptions, lock};
use crate::{Error, Role};
use std::sync::Mutex;
use trine_kernels::{CpuExecutor, Matrix, PANEL, interleave};
use trine_tensor::{Format, View, memory};

/// Columns that the exact integer sums of ternary products allow: `3 * 127 * 2^22 < 2^31`.
const MAX_COLUMNS: usize = 1 << 22;

/// A weight of the [`Cpu`].
pub struct Weight {
    pub(super) view: View,
    pub(super) role: Role,
    /// Whether its rows are interleaved, and the view's bytes not what its format says.
    interleaved: bool,
    /// Decoded, for roles that are one row.
    pub(super) row: Vec<f32>,
}

impl Weight {
    /// Its tensor, as it is stored on the device.
    ///
    /// # Panics
    /// When its rows are interleaved, so that the bytes are not what the format says.
    pub fn view(&self) -> &View {
        assert!(!self.interleaved, "tensor `{}` is repacked", self.view.name);
        &self.view
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The numbers of a weight that is one row.
    pub fn row(&self) -> &[f32] {
        &self.row
    }

    pub(super) fn matrix(&self) -> Matrix<'_> {
        let Weight { view, interleaved, .. } = self;
        let (rows, cols) = (view.rows(), view.cols());
        Matrix { interleaved: *interleaved, ..Matrix::new(view.format, rows, cols, &view.bytes) }
    }
}

/// The same tensor in memory of its own. Reading a few bytes through a mapping would bring many pages around them into memory.
fn read(view: &View) -> Result<View, Error> {
    let mut bytes = vec![0; view.bytes.len()];
    let read = view.copy_to(0, &mut bytes);
    read.map_err(|source| Error::Read { tensor: view.name.clone(), source: Box::new(source) })?;
    Ok(View::new(view.name.clone(), view.format, view.shape.clone(), bytes).expect("as it was"))
}

/// Whether the bytes of a matrix are copied, and whether its rows are interleaved then.
pub(super) fn placement(options: &CpuOptions, executor: &CpuExecutor, view: &View) -> (bool, bool) {
    // Parts of a matrix, one for each head or expert, are multiplied alone.
    let panels = view.shape.len() < 3 || view.shape[view.shape.len() - 2].is_multiple_of(PANEL);
    let repack = options.repack.is_on() && panels && executor.interleaves(view.format);
    (repack || options.huge_pages.is_on() && view.is_mapped(), repack)
}

/// Bytes of a weight that one thread reads at once.
const PIECE: usize = 1 << 20;

impl Cpu {
    /// See [`Backend::upload`](crate::Backend::upload).
    pub(super) fn load_weight(&mut self, mut view: View, role: Role) -> Result<Weight, Error> {
        let unfit = |reason| Error::Unfit { tensor: view.name.clone(), format: view.format.name, role, reason };
        let (mut row, mut interleaved) = (Vec::new(), false);
        if view.format.id.is_none() {
            return Err(unfit("it is raw data, not weights"));
        }
        match role {
            Role::Norm | Role::Bias => row = read(&view)?.decode(),
            Role::Embedding | Role::Head | Role::Linear | Role::BitLinear => {
                if view.cols() > MAX_COLUMNS {
                    return Err(Error::TooWide { found: view.cols(), tensor: view.name, most: MAX_COLUMNS });
                }
                if let Some(format) = view.rows_format() {
                    view = self.repack(&view, format)?;
                } else if role == Role::BitLinear && view.format.name.starts_with("Q2_0") {
                    // Exact integer sums over whole rows, as all ternary formats have them.
                    view = view.as_i2_s().unwrap_or(view);
                }
                (view, interleaved) = self.place(view)?;
            }
        }
        self.weights += size_of_val(&*row) as u64;
        Ok(Weight { view, role, interleaved, row })
    }

    /// Brings the bytes of a matrix to where the options want them, and says whether its rows are interleaved now.
    fn place(&mut self, view: View) -> Result<(View, bool), Error> {
        let (copy, repack) = placement(&self.options, &self.executor, &view);
        let view = if copy { self.copy(view, repack)? } else { view };
        if !copy && (!view.is_mapped() || self.mapped.insert(view.bytes.as_ptr() as usize)) {
            self.weights += view.bytes.len() as u64;
        }
        if !repack && (self.options.prefault || !view.is_mapped()) {
            self.check(&view)?;
        }
        if self.options.prefault {
            self.executor.pool().run_ranges(view.bytes.len(), PIECE, &|range, _| view.prefault(range));
        }
        if self.options.lock {
            let refused = |source| Error::Lock { bytes: view.bytes.len(), limit: memory::lock_limit(), source };
            memory::lock(&view.bytes).map_err(refused)?;
        }
        Ok((view, repack))
    }

    /// A matrix in an order of its own as what products take, in memory of our own.
    fn repack(&mut self, view: &View, format: &'static Format) -> Result<View, Error> {
        let stride = format.row_bytes(view.cols()).expect("whole blocks");
        let len = stride * view.rows() + format.tail;
        let mut copy = self.arena.take(len).map_err(|_| Error::NoMemory { bytes: len })?;
        let (rows, tail) = copy.split_at_mut(stride * view.rows());
        tail.copy_from_slice(&view.repacked_tail());
        let rows: Vec<Mutex<&mut [u8]>> = rows.chunks_mut(stride).map(Mutex::new).collect();
        self.executor.pool().run(rows.len(), &|i, _| view.repack_row(i, &mut lock(&rows[i])));
        drop(rows);
        Ok(View::new(view.name.clone(), format, view.shape.clone(), copy.freeze()).expect("as many weights"))
    }

    /// Refuses encoded weights that are no finite numbers, and ternary ones that are not ternary.
    fn check(&mut self, view: &View) -> Result<(), Error> {
        let (stride, failure) = ((view.bytes.len() - view.format.tail) / view.rows(), Mutex::new(None));
        self.executor.pool().run_ranges(view.rows(), (PIECE / stride.max(1)).max(1), &|rows, _| {
            let bytes = &view.bytes[rows.start * stride..rows.end * stride];
            view.check_rows(rows.start, bytes).unwrap_or_else(|error| *lock(&failure) = Some(error));
        });
        let failure = failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.map_or(Ok(()), |source| Err(Error::Damaged(Box::new(source))))
    }

    /// The same matrix in memory of our own, read in parallel; with its rows interleaved, if wanted.
    fn copy(&mut self, view: View, interleaved: bool) -> Result<View, Error> {
        let len = view.bytes.len();
        let mut copy = self.arena.take(len).map_err(|_| Error::NoMemory { bytes: len })?;
        let panel = PANEL * (len / view.rows().max(1));
        let piece = if interleaved { (PIECE / panel.max(1)).max(1) * panel } else { PIECE };
        let pieces: Vec<Mutex<&mut [u8]>> = copy.chunks_mut(piece).map(Mutex::new).collect();
        let rooms: Vec<Mutex<Vec<u8>>> = (0..self.executor.threads()).map(|_| Mutex::default()).collect();
        let failure = Mutex::new(None);
        self.executor.pool().run(pieces.len(), &|i, thread| {
            let out = &mut **lock(&pieces[i]);
            let copied = if interleaved {
                let mut room = lock(&rooms[thread]);
                room.resize(out.len(), 0);
                let read = view.copy_to(i * piece, &mut room);
                read.and_then(|()| view.check_rows(i * (piece / panel) * PANEL, &room)).map(|()| {
                    for (rows, out) in room.chunks(panel).zip(out.chunks_mut(panel)) {
                        if rows.len() == panel {
                            interleave(view.format, rows, out);
                        } else {
                            out.copy_from_slice(rows);
                        }
                    }
                })
            } else {
                view.copy_to(i * piece, out)
            };
            copied.unwrap_or_else(|error| *lock(&failure) = Some(error));
        });
        if let Some(source) = failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            return Err(match source {
                trine_tensor::Error::Io(_) => Error::Read { tensor: view.name, source: Box::new(source) },
                damaged => Error::Damaged(Box::new(damaged)),
            });
        }
        drop(pieces);
        Ok(View::new(view.name, view.format, view.shape, copy.freeze()).expect("as it was"))
    }
}
