//! What an event counts as.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::event::{Event, Interaction, Kind, Status};
use crate::field::Field;
use crate::rules::{Counts, Rules};

/// One counted engagement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counted<'a> {
    pub at: Timestamp,
    pub class: Counts,
    pub vehicle: Cow<'a, str>,
    /// Several records that share a group are counted once: those of one occasion, or of one imported engagement.
    pub group: Option<String>,
}

impl<'a> Counted<'a> {
    /// What an event counts as by itself; what a planned meeting counts as later is [`meeting`].
    pub fn of(event: &'a Event<'_>) -> Option<Counted<'a>> {
        if event.contact.is_empty() {
            return None;
        }
        let (at, vehicle) = (event.occurred_at, || event.text(Field::Vehicle).unwrap_or_default().into());
        match event.kind {
            Kind::Advocacy => Some(Counted { at, class: Counts::Advocacy, vehicle: "advocacy".into(), group: None }),
            Kind::Profile => {
                let at = event.time(Field::LastEngagementAt)?;
                let group = Some(format!("imported {at}"));
                Some(Counted { at, class: Counts::OneWay, vehicle: "imported".into(), group })
            }
            Kind::Engagement => match (event.status(), event.interaction()) {
                (Status::Attended, interaction @ (Interaction::TwoWay | Interaction::OneWay)) => {
                    let class = if interaction == Interaction::TwoWay { Counts::TwoWay } else { Counts::OneWay };
                    let group = event.text(Field::Occasion).map(occasion_group);
                    Some(Counted { at, class, vehicle: vehicle(), group })
                }
                (Status::Planned, Interaction::TwoWay | Interaction::OneWay) if event.get(Field::By).is_none() => {
                    Some(Counted { at, class: Counts::OneWay, vehicle: vehicle(), group: None })
                }
                _ => None,
            },
            Kind::Touch | Kind::Value | Kind::Action => None,
        }
    }

    /// The same, owning its text.
    pub fn into_owned(self) -> Counted<'static> {
        let Counted { at, class, vehicle, group } = self;
        Counted { at, class, vehicle: vehicle.into_owned().into(), group }
    }

    /// What it weighs.
    pub fn weight(&self, rules: &Rules) -> f64 {
        self.class_weight(rules) * rules.score.vehicle(&self.vehicle)
    }

    /// What its class weighs: the heaviest record of an occasion is the one that is counted.
    pub fn class_weight(&self, rules: &Rules) -> f64 {
        match self.class {
            Counts::TwoWay => rules.score.two_way,
            Counts::OneWay => rules.score.one_way,
            Counts::Advocacy => rules.score.advocacy,
        }
    }
}

/// The group of an occasion's records.
pub(super) fn occasion_group(occasion: &str) -> String {
    format!("occasion {occasion}")
}

/// What a planned engagement counts as once a tick has passed it, if it counts at all.
pub(super) fn meeting(event: &Event<'_>) -> Option<Counted<'static>> {
    let is_meeting = event.text(Field::Vehicle) == Some("meeting");
    let is_persons = matches!(event.interaction(), Interaction::TwoWay | Interaction::OneWay);
    let at = event.time(Field::ScheduledFor).filter(|_| is_meeting && is_persons)?;
    Some(Counted { at, class: Counts::TwoWay, vehicle: "meeting".into(), group: None })
}
