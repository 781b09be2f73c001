use jiff::Timestamp;
use proptest::prelude::*;
use touchline_core::output::Topic;

use crate::keys;

fn moment() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800..253_402_207_200i64, 0..1_000_000_000i32)
        .prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap())
}

proptest! {
    #[test]
    fn held_events_stand_in_the_order_of_time(a in (moment(), any::<u64>()), b in (moment(), any::<u64>())) {
        let (left, right) = (keys::held(a.0, a.1), keys::held(b.0, b.1));
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        prop_assert_eq!(keys::read_held(&left).unwrap(), a);
        let (from, to) = keys::held_through(b.0);
        prop_assert_eq!((&from..&to).contains(&&left), a.0 <= b.0);
    }

    #[test]
    fn pointers_stand_in_the_order_of_sequence(a: u64, b: u64) {
        prop_assert_eq!(keys::pointer(a).cmp(&keys::pointer(b)), a.cmp(&b));
        prop_assert_eq!(keys::read_sequence(&keys::pointer(a), 1).unwrap(), a);
    }

    #[test]
    fn rows_of_different_keys_differ(a in ".{0,2}", b in ".{0,2}", long in prop::bool::ANY) {
        let grow = |text: &str| if long { format!("{}{text}", "x".repeat(1_500)) } else { text.to_owned() };
        let (mut left, mut right) = (Vec::new(), Vec::new());
        keys::row(Topic::Facts, grow(&a).as_bytes(), &mut left);
        keys::row(Topic::Facts, grow(&b).as_bytes(), &mut right);
        prop_assert_eq!(left == right, a == b);
        prop_assert!(left.len() <= 1_100);
        let (from, to) = keys::rows_since(Topic::Facts, 7);
        prop_assert!(left[..] >= from[..] && left[..] < to[..]);
        prop_assert_eq!(keys::read_topic(&left).unwrap(), Topic::Facts);
    }
}
