//! Matrix products on slices.

use std::marker::PhantomData;

use gemm::Parallelism;

use super::float::Float;

/// A matrix in a slice.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    numbers: &'a [T],
    shape: Shape,
}

/// Rows, columns, and how far apart neighbours in a column and in a row are.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    down: usize,
    across: usize,
}

impl Shape {
    fn dense(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            down: columns,
            across: 1,
        }
    }

    /// How many numbers from the first to the last.
    fn span(&self) -> usize {
        match self.rows * self.columns {
            0 => 0,
            _ => (self.rows - 1) * self.down + (self.columns - 1) * self.across + 1,
        }
    }
}

impl<'a, T: Float> Matrix<'a, T> {
    /// All of `numbers`, row by row.
    pub fn new(numbers: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(numbers, rows, columns, columns)
    }

    /// Rows of `columns` numbers that begin `down` numbers apart.
    pub fn strided(numbers: &'a [T], rows: usize, columns: usize, down: usize) -> Self {
        let shape = Shape {
            down,
            ..Shape::dense(rows, columns)
        };
        assert!(shape.span() <= numbers.len(), "a matrix beyond its slice");
        Self { numbers, shape }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        let Shape {
            rows,
            columns,
            down,
            across,
        } = self.shape;
        let shape = Shape {
            rows: columns,
            columns: rows,
            down: across,
            across: down,
        };
        Self { shape, ..self }
    }
}

/// A matrix to write, its rows `down` numbers apart.
pub struct Output<'a, T> {
    numbers: *mut T,
    shape: Shape,
    borrow: PhantomData<&'a mut [T]>,
}

impl<'a, T: Float> Output<'a, T> {
    /// All of `numbers`, row by row.
    pub fn new(numbers: &'a mut [T], rows: usize, columns: usize) -> Self {
        Self::strided(numbers, rows, columns, columns)
    }

    /// Rows of `columns` numbers that begin `down` numbers apart.
    pub fn strided(numbers: &'a mut [T], rows: usize, columns: usize, down: usize) -> Self {
        let len = numbers.len();
        // SAFETY: the slice is borrowed for as long as the matrix lives.
        unsafe { Self::raw(numbers.as_mut_ptr(), len, rows, columns, down) }
    }

    /// The same from the first of `len` numbers.
    ///
    /// # Safety
    /// They are there for `'a`, and nobody else uses those of the matrix meanwhile.
    unsafe fn raw(numbers: *mut T, len: usize, rows: usize, columns: usize, down: usize) -> Self {
        let shape = Shape {
            down,
            ..Shape::dense(rows, columns)
        };
        assert!(shape.span() <= len, "a matrix beyond its slice");
        assert!(rows <= 1 || down >= columns, "rows that overlap");
        Self {
            numbers,
            shape,
            borrow: PhantomData,
        }
    }

    /// Its rows.
    pub fn rows(&mut self) -> impl Iterator<Item = &mut [T]> {
        let Shape {
            rows,
            columns,
            down,
            ..
        } = self.shape;
        // SAFETY: rows lie within the numbers, which are borrowed mutably, and do not overlap.
        (0..rows).map(move |i| unsafe {
            std::slice::from_raw_parts_mut(self.numbers.add(i * down), columns)
        })
    }

    /// The same matrix, to use it more than once.
    pub fn again(&mut self) -> Output<'_, T> {
        Output { ..*self }
    }
}

/// Numbers of which several threads write disjoint matrices.
pub struct Shared<'a, T> {
    numbers: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: threads only get matrices that their callers promise to be disjoint.
unsafe impl<T: Float> Sync for Shared<'_, T> {}

impl<'a, T: Float> Shared<'a, T> {
    /// All of `numbers`.
    pub fn new(numbers: &'a mut [T]) -> Self {
        Self {
            numbers: numbers.as_mut_ptr(),
            len: numbers.len(),
            borrow: PhantomData,
        }
    }

    /// `rows` rows of `columns` numbers, `down` apart, the first at `from`.
    ///
    /// # Safety
    /// No number of it belongs to another matrix that is alive.
    pub unsafe fn part(
        &self,
        from: usize,
        [rows, columns]: [usize; 2],
        down: usize,
    ) -> Output<'_, T> {
        assert!(from <= self.len, "a matrix beyond its slice");
        // SAFETY: `from` is within the numbers; the caller promises the rest.
        unsafe { Output::raw(self.numbers.add(from), self.len - from, rows, columns, down) }
    }
}

/// Update mode of a product: its result replaces what is there, or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Replaces it.
    Write,
    /// Is added to it.
    Add,
}

/// Threads that compute a product. Its numbers do not depend on it: the sum over the inner axis is never split
/// between threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// This one.
    One,
    /// The pool's.
    All,
}

/// `out = a b`, or `out += a b`.
pub fn matmul<T: Float>(out: Output<T>, a: Matrix<T>, b: Matrix<T>, mode: Mode, threads: Threads) {
    let (m, n, k) = (out.shape.rows, out.shape.columns, a.shape.columns);
    let fit = (a.shape.rows, b.shape.rows, b.shape.columns) == (m, k, n);
    assert!(fit, "matrices that do not fit");
    let parallelism = match threads {
        Threads::All if rayon::current_num_threads() > 1 => Parallelism::Rayon(0),
        _ => Parallelism::None,
    };
    // SAFETY: the three matrices lie within their slices (checked where they are made) and fit
    // each other; `out` is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.numbers,
            out.shape.across as isize,
            out.shape.down as isize,
            mode == Mode::Add,
            a.numbers.as_ptr(),
            a.shape.across as isize,
            a.shape.down as isize,
            b.numbers.as_ptr(),
            b.shape.across as isize,
            b.shape.down as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            parallelism,
        );
    }
}
