//! Forward decay (Cormode, Shkapenyuk, Srivastava and Xu, ICDE 2009): every point is kept as it grows from a fixed past,
//! so that late events add exactly and nothing has to be recomputed as time goes by.
//!
//! A weight w at time t is stored as w · 2^(t/h − L·[`STRIDE`]), where L is a whole number that all sums of one record
//! share; what it is worth at time u is that times 2^(L·[`STRIDE`] − u/h). Moving on to a later L multiplies by a power
//! of two, which costs no precision.

use jiff::Timestamp;

/// Half-lives between two landmarks: 2^±512 and its products with weights stay inside a double.
const STRIDE: f64 = 512.0;

/// A landmark and how to grow and decay by it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decay {
    half_life_s: f64,
}

impl Decay {
    /// With this half-life in seconds.
    pub fn new(half_life_s: u64) -> Decay {
        Decay { half_life_s: half_life_s.max(1) as f64 }
    }

    fn half_lives(self, at: Timestamp) -> f64 {
        let seconds = at.as_second() as f64 + f64::from(at.subsec_nanosecond()) * 1e-9;
        seconds / self.half_life_s
    }

    /// The landmark of a moment.
    pub fn landmark(self, at: Timestamp) -> i64 {
        (self.half_lives(at) / STRIDE).floor() as i64
    }

    /// What a weight of one at `at` is stored as.
    pub fn grown(self, at: Timestamp, landmark: i64) -> f64 {
        (self.half_lives(at) - landmark as f64 * STRIDE).exp2()
    }

    /// What a stored point of one is worth at `at`.
    pub fn worth(self, landmark: i64, at: Timestamp) -> f64 {
        (landmark as f64 * STRIDE - self.half_lives(at)).exp2()
    }

    /// The factor that takes stored points from one landmark to another.
    pub fn shift(self, from: i64, to: i64) -> f64 {
        ((from - to) as f64 * STRIDE).exp2()
    }
}

/// S → 0 … 100: 100 (1 − e^(−S/k)). Unlike a ranking it needs no population.
pub fn score(points: f64, k: f64) -> f64 {
    // A sum of nothing is -0.0 and would be published as such.
    -100.0 * (-points / k).exp_m1() + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_scores_nothing() {
        assert!(score([].iter().sum(), 10.0).is_sign_positive());
    }

    #[test]
    fn a_point_is_worth_half_after_a_half_life_on_any_landmark() {
        let decay = Decay::new(86_400);
        for day in [-200_000i64, 0, 20_000, 200_000] {
            let at = Timestamp::from_second(day * 86_400).unwrap();
            let later = Timestamp::from_second((day + 1) * 86_400).unwrap();
            for landmark in [decay.landmark(at), decay.landmark(at) + 1] {
                let stored = decay.grown(at, landmark);
                assert!((stored * decay.worth(landmark, at) - 1.0).abs() < 1e-9);
                assert!((stored * decay.worth(landmark, later) - 0.5).abs() < 1e-9);
            }
        }
    }
}
