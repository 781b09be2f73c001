//! Where a test can let the store or the disk fail. Outside of tests, nothing.

#[cfg(test)]
pub(crate) use armed::{arm_disk, arm_store};
pub(crate) use armed::{operation, write};

#[cfg(not(test))]
mod armed {
    use std::io;

    use crate::SnapshotError;

    #[inline]
    pub(crate) fn operation(_: impl FnOnce() -> String) -> Result<(), SnapshotError> {
        Ok(())
    }

    #[inline]
    pub(crate) fn write() -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod armed {
    use std::cell::Cell;
    use std::io;

    use crate::SnapshotError;

    thread_local! {
        /// How many operations still succeed, and how many behind them fail.
        static STORE: Cell<(u32, u32)> = const { Cell::new((u32::MAX, 0)) };
        /// How many writes still succeed.
        static DISK: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    /// Lets the store of this thread do `good` operations and fail the next `bad`.
    pub(crate) fn arm_store(good: u32, bad: u32) {
        STORE.set((good, bad));
    }

    /// Lets the disk be full for this thread after `good` writes.
    pub(crate) fn arm_disk(good: u32) {
        DISK.set(good);
    }

    pub(crate) fn operation(place: impl FnOnce() -> String) -> Result<(), SnapshotError> {
        match STORE.get() {
            (0, 0) => Ok(()),
            (0, bad) => {
                STORE.set((0, bad - 1));
                Err(SnapshotError::Away { place: place(), source: "a test says so".into() })
            }
            (good, bad) => {
                STORE.set((good - 1, bad));
                Ok(())
            }
        }
    }

    pub(crate) fn write() -> io::Result<()> {
        match DISK.get() {
            0 => Err(io::ErrorKind::StorageFull.into()),
            good => {
                DISK.set(good - 1);
                Ok(())
            }
        }
    }
}
