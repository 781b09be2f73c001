//! Decoders: what a single TOML value may be, in the units that people write. Pure, and without a place: an error says
//! what is wrong and what would be right, and [`super::table`] adds where.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use toml::de::DeValue;

use super::secret::Secret;

/// A decoded value, or what is wrong with it.
pub(super) type Read<T> = Result<T, String>;

/// Names become keys, labels and consumer groups; the event field `source` has the same limit.
const NAME_BYTES: usize = 256;
/// Kafka's own limit.
const TOPIC_BYTES: usize = 249;
/// Of a wrong value, no more than this is repeated.
const SHOWN_CHARS: usize = 40;
/// Weights are ratios to one another: a million is beyond any, and sums of points stay finite.
const WEIGHT: RangeInclusive<f64> = 0.0..=1e6;

/// Units of durations, in milliseconds.
pub(super) const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Units of sizes, in bytes.
pub(super) const SIZE_UNITS: [(&str, u64); 4] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A key whose name ends so holds a secret.
const SECRETS: [&str; 7] = ["secret", "password", "passphrase", "token", "api_key", "secret_key", "key.pem"];

/// What a value is, in words.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn expected<T>(what: &str, value: &DeValue<'_>) -> Read<T> {
    Err(format!("expected {what}, not {}", kind_of(value)))
}

/// A wrong value as it may be repeated: one line, bounded.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().map_or_else(|| expected("true or false", value), Ok)
}

/// Any text but the empty one.
pub(super) fn text(value: &DeValue<'_>) -> Read<String> {
    match value.as_str() {
        Some("") => Err("must not be empty".to_owned()),
        Some(text) => Ok(text.to_owned()),
        None => expected("a string", value),
    }
}

/// The name of a source or sink.
pub(super) fn name(value: &DeValue<'_>) -> Read<String> {
    let name = text(value)?;
    if name.len() > NAME_BYTES {
        return Err(format!("{} is longer than {NAME_BYTES} bytes", shown(&name)));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("{} has control characters", shown(&name)));
    }
    Ok(name)
}

/// A path as the user wrote it; a relative one is relative to the working directory.
pub(super) fn path(value: &DeValue<'_>) -> Read<PathBuf> {
    text(value).map(PathBuf::from)
}

/// The name of a Kafka topic, or a prefix of names.
pub(super) fn topic(value: &DeValue<'_>) -> Read<String> {
    let topic = text(value)?;
    let legal = topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if legal && topic.len() <= TOPIC_BYTES && topic != "." && topic != ".." {
        Ok(topic)
    } else {
        let rule = format!("at most {TOPIC_BYTES} letters, digits, `.`, `_` and `-`");
        Err(format!("{} is no topic name: {rule}", shown(&topic)))
    }
}

/// A mail domain, in lower case.
pub(super) fn domain(value: &DeValue<'_>) -> Read<String> {
    let text = text(value)?;
    let domain = text.rsplit('@').next().unwrap_or_default();
    if domain.is_empty() || domain.starts_with('.') || domain.contains(char::is_whitespace) {
        return Err(format!("{} is no mail domain such as \"example.com\"", shown(&text)));
    }
    if domain.len() < text.len() {
        return Err(format!("{} is no mail domain; did you mean {}?", shown(&text), shown(domain)));
    }
    Ok(domain.to_lowercase())
}

/// The address that a server listens on.
pub(super) fn address(value: &DeValue<'_>) -> Read<SocketAddr> {
    let text = text(value)?;
    text.parse().map_err(|_| format!("{} is no IP address and port such as \"127.0.0.1:9464\"", shown(&text)))
}

/// A whole number within a range.
pub(super) fn int<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Read<T>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    move |value| {
        let Some(integer) = value.as_integer() else { return expected("a whole number", value) };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|n| T::try_from(n).ok());
        let within = number.filter(|number| range.contains(number));
        within.ok_or_else(|| out_of_range(&integer.to_string(), &range.start().to_string(), &range.end().to_string()))
    }
}

fn out_of_range(value: &str, low: &str, high: &str) -> String {
    format!("{} is out of range: {low} to {high}", shown(value))
}

fn number(value: &DeValue<'_>) -> Read<f64> {
    let digits = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => return expected("a decimal number", value),
    };
    let number = digits.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("{} is not finite", shown(digits)))
}

/// What a kind of engagement is worth, in relation to the others.
pub(super) fn weight(value: &DeValue<'_>) -> Read<f64> {
    let weight = number(value)?;
    if WEIGHT.contains(&weight) {
        return Ok(weight);
    }
    Err(out_of_range(&weight.to_string(), &WEIGHT.start().to_string(), &WEIGHT.end().to_string()))
}

/// A finite number above 0.
pub(super) fn positive(value: &DeValue<'_>) -> Read<f64> {
    let number = number(value)?;
    if number > 0.0 { Ok(number) } else { Err(format!("`{number}` must be more than 0")) }
}

/// A duration such as "100ms", "5m", "24h" or "14d"; a day has 24 hours.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Read<Duration> {
    const WHAT: &str = "a duration such as \"100ms\", \"30s\", \"5m\", \"24h\" or \"14d\"";
    let ms = |d: &Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let decode = quantity(WHAT, &TIME_UNITS, ms(range.start())..=ms(range.end()));
    move |value| decode(value).map(Duration::from_millis)
}

/// A duration in whole seconds, as the rules hold it.
pub(super) fn seconds(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Read<u64> {
    let decode = duration(range);
    move |value| match decode(value)? {
        whole if whole.subsec_nanos() == 0 => Ok(whole.as_secs()),
        _ => Err("must be whole seconds".to_owned()),
    }
}

/// A size in bytes such as "512MiB".
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Read<u64> {
    quantity("a size such as \"64KiB\", \"512MiB\" or \"1GiB\"", &SIZE_UNITS, range)
}

/// A whole number with one of `units`, in the unit that has factor 1.
fn quantity(
    what: &'static str,
    units: &'static [(&'static str, u64)],
    range: RangeInclusive<u64>,
) -> impl Fn(&DeValue<'_>) -> Read<u64> {
    move |value| {
        let Some(text) = value.as_str() else { return expected(what, value) };
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let (Some(factor), false) = (factor, digits.is_empty()) else {
            return Err(format!("{} is not {what}", shown(text)));
        };
        let quantity = digits.parse().ok().and_then(|count: u64| count.checked_mul(factor));
        let within = quantity.filter(|quantity| range.contains(quantity));
        within.ok_or_else(|| out_of_range(text, &in_units(*range.start(), units), &in_units(*range.end(), units)))
    }
}

/// A quantity in the largest unit that leaves no fraction.
pub(super) fn in_units(quantity: u64, units: &[(&str, u64)]) -> String {
    let largest = units.iter().rev().find(|(_, factor)| quantity >= *factor && quantity.is_multiple_of(*factor));
    largest.map_or_else(|| quantity.to_string(), |(name, factor)| format!("{}{name}", quantity / factor))
}

/// A moment, as RFC 3339 text or as TOML's own date with a time and an offset.
pub(super) fn timestamp(value: &DeValue<'_>) -> Read<Timestamp> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        _ => return expected("a time stamp such as \"2026-01-01T00:00:00Z\"", value),
    };
    let why = "is no time stamp with an offset, such as \"2026-01-01T00:00:00Z\"";
    text.parse().map_err(|_| format!("{} {why}", shown(&text)))
}

/// A time zone of the bundled database.
pub(super) fn zone(value: &DeValue<'_>) -> Read<TimeZone> {
    let name = text(value)?;
    let database = TimeZoneDatabase::bundled();
    database.get(&name).map_err(|_| {
        let zones: Vec<String> =
            database.available().map(|zone| zone.to_string()).filter(|z| z.contains('/')).collect();
        let city = |zone: &&String| zone.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&name));
        let near = nearest(&name, zones.iter().map(String::as_str)).or(zones.iter().find(city).map(String::as_str));
        let advice = near
            .map_or("; write an IANA name such as \"Europe/Berlin\"".to_owned(), |z| format!("; did you mean `{z}`?"));
        format!("unknown time zone {}{advice}", shown(&name))
    })
}

/// Where snapshots go: a URL with one of these schemes, or "none".
pub(super) fn snapshot_url(value: &DeValue<'_>) -> Read<String> {
    const SCHEMES: [&str; 4] = ["file:///", "s3://", "gs://", "az://"];
    let url = text(value)?;
    if url == "none" || SCHEMES.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)) {
        return Ok(url);
    }
    // The value is not repeated: a URL can hold a password.
    Err(format!("expected \"none\" or a URL that begins with {}", SCHEMES.join(", ")))
}

/// One of a closed list of words.
pub(super) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let names = || words.iter().map(|(name, _)| *name);
        let list = || names().collect::<Vec<_>>().join(", ");
        let Some(text) = value.as_str() else { return expected(&format!("one of {}", list()), value) };
        if let Some((_, meaning)) = words.iter().find(|(name, _)| *name == text) {
            return Ok(*meaning);
        }
        Err(match nearest(text, names()) {
            Some(near) => format!("unknown value {}; did you mean `{near}`?", shown(text)),
            None => format!("unknown value {}; it is one of {}", shown(text), list()),
        })
    }
}

/// A word of the design of which this version has only `here`; one of `later` is refused as what it is.
pub(super) fn built_in<T: Copy>(
    here: &'static [(&'static str, T)],
    later: &'static [&'static str],
) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| match value.as_str().filter(|text| later.contains(text)) {
        Some(text) => {
            let has: Vec<&str> = here.iter().map(|(name, _)| *name).collect();
            Err(format!("`{text}` is not built into this version; it has: {}", has.join(", ")))
        }
        None => one_of(here)(value),
    }
}

/// A property of librdkafka: free, but a secret only by reference.
pub(super) fn property(name: &str, value: &DeValue<'_>) -> Read<Secret> {
    secret(name, value)?;
    match value {
        DeValue::String(text) => Ok(Secret::parse(text)),
        DeValue::Integer(number) => Ok(Secret::Plain(number.to_string())),
        DeValue::Float(number) => Ok(Secret::Plain(number.to_string())),
        DeValue::Boolean(flag) => Ok(Secret::Plain(flag.to_string())),
        _ => expected("a string, a number, true or false", value),
    }
}

/// A secret is named, never written: `env:NAME` or `file:PATH`. Values of other names pass.
pub(super) fn secret(name: &str, value: &DeValue<'_>) -> Read<()> {
    let name = name.to_lowercase();
    if SECRETS.iter().any(|end| name.ends_with(end)) { one_or_more(reference)(value).map(|_| ()) } else { Ok(()) }
}

/// Where a secret is.
pub(super) fn reference(value: &DeValue<'_>) -> Read<Secret> {
    match Secret::parse(value.as_str().unwrap_or_default()) {
        Secret::Plain(_) => {
            Err("a secret is never written here: name where it is, \"env:NAME\" or \"file:PATH\"".to_owned())
        }
        secret => Ok(secret),
    }
}

/// A URL that begins so, or where it is: a URL can be a secret.
pub(super) fn url(schemes: &'static [&'static str]) -> impl Fn(&DeValue<'_>) -> Read<Secret> {
    move |value| match Secret::parse(&text(value)?) {
        Secret::Plain(url) if !schemes.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)) => {
            // The value is not repeated: it can hold a password.
            Err(format!("expected a URL that begins with {}, or \"env:NAME\" or \"file:PATH\"", schemes.join(" or ")))
        }
        url => Ok(url),
    }
}

/// An array, in its order.
pub(super) fn list<T>(decode: impl Fn(&DeValue<'_>) -> Read<T>) -> impl Fn(&DeValue<'_>) -> Read<Vec<T>> {
    move |value| match value.as_array() {
        Some(items) => items.iter().map(|item| decode(item.get_ref())).collect(),
        None => expected("an array", value),
    }
}

/// One, or an array of some.
pub(super) fn one_or_more<T>(decode: impl Fn(&DeValue<'_>) -> Read<T>) -> impl Fn(&DeValue<'_>) -> Read<Vec<T>> {
    move |value| match value.as_array() {
        Some(items) if items.is_empty() => Err("must not be empty".to_owned()),
        Some(items) => items.iter().map(|item| decode(item.get_ref())).collect(),
        None => Ok(vec![decode(value)?]),
    }
}

/// The candidate that `word` is a slip of, if there is one: a letter in four may differ, one in a shorter word.
pub(super) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' ', '.'], "_");
    let word = plain(word);
    let letters = word.chars().count();
    let slips = (letters / 4).max(1).min(letters / 2);
    let distances = candidates.map(|candidate| (strsim::osa_distance(&word, &plain(candidate)), candidate));
    distances.filter(|(distance, _)| *distance <= slips).min_by_key(|(distance, _)| *distance).map(|(_, near)| near)
}
