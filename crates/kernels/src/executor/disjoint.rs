//! A buffer whose parts are written by different tasks.

/// A mutable slice shared by the tasks of a loop, each of which writes elements of its own.
pub(super) struct Disjoint<T>(*mut T);

// SAFETY: every method that touches elements is unsafe and leaves it to the caller that no other task does.
unsafe impl<T: Send> Sync for Disjoint<T> {}

impl<T> Disjoint<T> {
    pub fn of(x: &mut [T]) -> Disjoint<T> {
        Disjoint(x.as_mut_ptr())
    }

    /// The address of element `i`.
    pub fn at(&self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }

    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// They are inside the buffer, which is alive, and nobody else touches them.
    #[expect(clippy::mut_from_ref, reason = "the slices are disjoint")]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        // SAFETY: as the function's.
        unsafe { std::slice::from_raw_parts_mut(self.at(start), len) }
    }

    /// Row `i` of rows of `width`.
    ///
    /// # Safety
    /// As for [`Disjoint::slice`].
    #[expect(clippy::mut_from_ref, reason = "the rows are disjoint")]
    pub unsafe fn row(&self, i: usize, width: usize) -> &mut [T] {
        // SAFETY: as the function's.
        unsafe { self.slice(i * width, width) }
    }
}
