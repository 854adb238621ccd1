//! Why a form cannot be read.

use std::{error, fmt};

/// Where a form is malformed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormError {
    position: usize,
    problem: &'static str,
}

impl FormError {
    pub(super) fn new(position: usize, problem: &'static str) -> Self {
        Self { position, problem }
    }

    /// The number of the byte where the trouble begins, counted from 0.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.position, self.problem)
    }
}

impl error::Error for FormError {}
