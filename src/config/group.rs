//! The settings of one consumer group (KIP-848): the broker's, with the group's own over them.
//!
//! *Owns*: which settings a group may have, and their resolution. *Never*: keeps them. *Runs on*: every core.

use super::level::{Level, Overrides};
use super::row::SettingError;
use super::table::Settings;

/// What a group is set to. The fields carry Kafka's group-level names (`GroupConfig`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupSettings {
    pub consumer_session_timeout_ms: u32,
    /// Invariant: shorter than the session timeout.
    pub consumer_heartbeat_interval_ms: u32,
}

impl Default for GroupSettings {
    fn default() -> Self {
        GroupSettings::from_broker(&Settings::default())
    }
}

impl GroupSettings {
    /// The group's settings, by their group-level names, over the broker's. Errors are Kafka's INVALID_CONFIG: an
    /// unknown name, a value out of the range that the broker allows groups, or two that contradict each other.
    pub fn resolve(settings: &Settings, overrides: &Overrides) -> Result<GroupSettings, SettingError> {
        let group = GroupSettings::from_broker(&Level::Group.over(settings, overrides)?);
        let within = |name: &str, value: u32, least: u32, most: u32, of: &str| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let message = format!("must be {least} to {most} (group.consumer.min.{of} and .max.), not `{value}`");
            Err(SettingError { name: name.to_owned(), message })
        };
        let (session, heartbeat) = (group.consumer_session_timeout_ms, group.consumer_heartbeat_interval_ms);
        let (least, most) =
            (settings.group_consumer_min_session_timeout_ms, settings.group_consumer_max_session_timeout_ms);
        within("consumer.session.timeout.ms", session, least, most, "session.timeout.ms")?;
        let (least, most) =
            (settings.group_consumer_min_heartbeat_interval_ms, settings.group_consumer_max_heartbeat_interval_ms);
        within("consumer.heartbeat.interval.ms", heartbeat, least, most, "heartbeat.interval.ms")?;
        if session <= heartbeat {
            let message = format!("must be more than consumer.heartbeat.interval.ms, which is {heartbeat}");
            return Err(SettingError { name: "consumer.session.timeout.ms".into(), message });
        }
        Ok(group)
    }

    /// As [`GroupSettings::resolve`], of overrides that were checked when they were made. Where they do not hold any
    /// more, the broker's settings count.
    pub fn in_force(settings: &Settings, overrides: &Overrides) -> GroupSettings {
        if overrides.is_empty() {
            return GroupSettings::from_broker(settings);
        }
        GroupSettings::resolve(settings, overrides).unwrap_or_else(|_| GroupSettings::from_broker(settings))
    }

    fn from_broker(settings: &Settings) -> GroupSettings {
        GroupSettings {
            consumer_session_timeout_ms: settings.group_consumer_session_timeout_ms,
            consumer_heartbeat_interval_ms: settings.group_consumer_heartbeat_interval_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_own_settings_stand_over_the_brokers_within_its_bounds() {
        let broker = Settings {
            group_consumer_min_session_timeout_ms: 6_000,
            group_consumer_max_heartbeat_interval_ms: 20_000,
            ..Settings::default()
        };
        let check = |overrides: &[(&str, &str)], expect: Result<(u32, u32), &str>| {
            let overrides = overrides.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
            match (GroupSettings::resolve(&broker, &overrides), expect) {
                (Ok(got), Ok(wanted)) => {
                    assert_eq!((got.consumer_session_timeout_ms, got.consumer_heartbeat_interval_ms), wanted);
                    assert_eq!(GroupSettings::in_force(&broker, &overrides), got);
                }
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{error}");
                    assert_eq!(GroupSettings::in_force(&broker, &overrides), GroupSettings::default());
                }
                (got, _) => panic!("{overrides:?}: {got:?}"),
            }
        };
        check(&[], Ok((45_000, 5_000)));
        check(&[("consumer.session.timeout.ms", "6000")], Ok((6_000, 5_000)));
        check(&[("consumer.session.timeout.ms", "5999")], Err("must be 6000 to 60000"));
        check(&[("consumer.session.timeout.ms", "60001")], Err("must be 6000 to 60000"));
        check(&[("consumer.heartbeat.interval.ms", "4999")], Err("must be 5000 to 20000"));
        check(
            &[("consumer.session.timeout.ms", "7000"), ("consumer.heartbeat.interval.ms", "7000")],
            Err("must be more than consumer.heartbeat.interval.ms, which is 7000"),
        );
        check(&[("consumer.session.timeout", "7000")], Err("did you mean `consumer.session.timeout.ms`?"));
        check(&[("segment.bytes", "70000")], Err("is not a setting"));
        check(&[("group.consumer.session.timeout.ms", "50000")], Err("is not a setting"));
    }
}
