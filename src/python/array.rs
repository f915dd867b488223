//! NumPy arrays in place.
//!
//! Python may write to an array at any time, so no reference to its elements is ever formed: they are loaded through a
//! raw pointer, one by one, into the core's staging buffer, and what was loaded is what is validated and stored.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;

use numpy::npyffi::{_PyArray_GET_ITEM_DATA, NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, dtype};
use parking_lot::RwLock;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use crate::error::{Error, ErrorKind};
use crate::limits;
use crate::model::{Embeddings, Rows};

/// A checked array: C-contiguous, aligned, native float32, two-dimensional.
struct Checked {
    data: *const f32,
    rows: usize,
    dimension: usize,
}

/// Checks what the facade promised; the elements behind the pointer stay where they are while [`Pins`] are held.
fn check(array: &Bound<'_, PyUntypedArray>) -> PyResult<Checked> {
    let py = array.py();
    // SAFETY: attached, and `array` is an ndarray.
    let fields = unsafe { &*_PyArray_GET_ITEM_DATA(array.as_array_ptr()) };
    let wanted = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED;
    if fields.nd != 2 || fields.flags & wanted != wanted || !array.dtype().is_equiv_to(&dtype::<f32>(py)) {
        return Err(PyTypeError::new_err(
            "an array for the private module is C-contiguous, aligned, native float32 and two-dimensional",
        ));
    }
    let shape = array.shape();
    Ok(Checked { data: fields.data.cast_const().cast(), rows: shape[0], dimension: shape[1] })
}

/// Loads `out.len()` elements from `from` on.
///
/// # Safety
/// That many elements are readable there and aligned. Others may write to them meanwhile.
unsafe fn load(from: *const f32, out: &mut [f32]) {
    for (offset, value) in out.iter_mut().enumerate() {
        // Volatile: every element is loaded exactly once, so that a racing write cannot show two values of it.
        *value = unsafe { ptr::read_volatile(from.add(offset)) };
    }
}

/// Rows in the memory of a NumPy array, until they are revoked.
struct ArrayRows {
    data: RwLock<*const f32>,
    rows: usize,
    dimension: usize,
}

// SAFETY: the pointer is only read through, under the lock, while the pins hold the memory; which thread reads does not
// matter to memory that no Rust reference covers.
unsafe impl Send for ArrayRows {}
// SAFETY: as for Send; concurrent loads do not disturb each other.
unsafe impl Sync for ArrayRows {}

impl Rows for ArrayRows {
    fn rows(&self) -> usize {
        self.rows
    }

    fn dimension(&self) -> usize {
        self.dimension
    }

    fn copy(&self, first: usize, out: &mut [f32]) {
        let start = first * self.dimension;
        assert!(start + out.len() <= self.rows * self.dimension, "rows out of range");
        let data = self.data.read();
        assert!(!data.is_null(), "rows are read after the write returned");
        // SAFETY: in range by the assertion above; the pins hold the memory until `revoke` takes the lock.
        unsafe { load(data.add(start), out) };
    }
}

/// Keeps the memory of an array where it is: NumPy refuses to resize an array that has weak references, even with
/// `refcheck=False`, and the strong reference keeps every owner down the chain alive.
///
/// One way around it remains: `ndarray.__setstate__` on the very array frees its memory regardless.
pub(super) struct Pins {
    rows: Arc<ArrayRows>,
    _array: Py<PyUntypedArray>,
    _weak: Vec<Py<PyWeakrefReference>>,
}

impl Pins {
    /// Weak references to `array` and to every ndarray that its memory comes from.
    fn chain(array: &Bound<'_, PyUntypedArray>) -> PyResult<Vec<Py<PyWeakrefReference>>> {
        let mut weak = Vec::with_capacity(2);
        let mut next = array.clone();
        loop {
            weak.push(PyWeakrefReference::new(next.as_any())?.unbind());
            let base = next.as_any().getattr(intern!(array.py(), "base"))?;
            match base.cast_into::<PyUntypedArray>() {
                Ok(base) => next = base,
                Err(_) => return Ok(weak),
            }
        }
    }
}

impl Drop for Pins {
    /// Waits for a copy under way. Memory safety so rests on this, not on the core's promise to be done.
    fn drop(&mut self) {
        *self.rows.data.write() = ptr::null();
    }
}

/// The rows of an array: in place with the pins that must outlive their use, or copied when they are few or `copy`.
/// `None` for an array without rows.
pub(super) fn embeddings(array: &Bound<'_, PyAny>, copy: bool) -> PyResult<Option<(Embeddings, Option<Pins>)>> {
    let array = array.cast::<PyUntypedArray>()?;
    // Before the pointer is read: what is pinned cannot move any more.
    let weak = Pins::chain(array)?;
    let Checked { data, rows, dimension } = check(array)?;
    if rows == 0 {
        return Ok(None);
    }
    let rows = Arc::new(ArrayRows { data: RwLock::new(data), rows, dimension });
    let embeddings = Embeddings::new(rows.clone())?;
    if copy || embeddings.bytes() <= limits::SHARED_COMMIT_BYTES {
        return Ok(Some((embeddings.to_owned(), None)));
    }
    Ok(Some((embeddings, Some(Pins { rows, _array: array.clone().unbind(), _weak: weak }))))
}

/// Every row of an array, copied, and the dimension.
pub(super) fn matrix(array: &Bound<'_, PyAny>) -> PyResult<(Vec<f32>, usize)> {
    let Checked { data, rows, dimension } = check(array.cast::<PyUntypedArray>()?)?;
    let mut values = vec![0.0; rows * dimension];
    // SAFETY: `check` saw that many aligned elements, and the interpreter stays attached.
    unsafe { load(data, &mut values) };
    Ok((values, dimension))
}

/// The one row of an array, copied.
pub(super) fn vector(array: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    let Checked { data, rows, dimension } = check(array.cast::<PyUntypedArray>()?)?;
    if rows != 1 {
        return Err(
            Error::new(ErrorKind::InvalidVector, format!("vector has {rows} rows; a search takes one vector")).into()
        );
    }
    let mut values = vec![0.0; dimension];
    // SAFETY: `check` saw that many aligned elements, and the interpreter stays attached.
    unsafe { load(data, &mut values) };
    Ok(values)
}
