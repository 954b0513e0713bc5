//! Panics of others' code as values: around every parser that is not ours and reads what a user gave.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `run` gives, or nothing where it panics; without a word, unlike panics everywhere else.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let caught = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(before);
    caught.ok()
}

#[cfg(test)]
mod tests {
    #[test]
    #[allow(clippy::panic)]
    fn a_panic_is_nothing_and_a_value_itself() {
        assert_eq!(super::catch(|| 3), Some(3));
        assert_eq!(super::catch(|| -> u8 { panic!("unheard") }), None);
    }
}
