//! Places in the commit cycle where a test can pretend that the process dies. Outside of tests, nothing.

use crate::StoreError;

/// The steps of the commit cycle, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A batch is applied; the journal has not been told.
    Applied,
    /// The write batch is made; the database has not got it.
    Write,
    /// The database has it; the store does not know.
    Written,
    /// The commit is over; nobody was told.
    Committed,
}

#[cfg(not(test))]
#[inline]
pub(crate) fn reach(_: Point) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(test)]
pub(crate) use armed::{arm, reach};

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    use super::{Point, StoreError};

    impl Point {
        pub(crate) const ALL: [Point; 4] = [Point::Applied, Point::Write, Point::Written, Point::Committed];
    }

    thread_local! {
        static ARMED: Cell<Option<(Point, u32)>> = const { Cell::new(None) };
    }

    /// Lets this thread die when it reaches `point` for the `nth` time from now (from 0).
    pub(crate) fn arm(point: Point, nth: u32) {
        ARMED.set(Some((point, nth)));
    }

    pub(crate) fn reach(point: Point) -> Result<(), StoreError> {
        match ARMED.get() {
            Some((armed, 0)) if armed == point => {
                ARMED.set(None);
                Err(StoreError::Died(point))
            }
            Some((armed, left)) if armed == point => {
                ARMED.set(Some((armed, left - 1)));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
