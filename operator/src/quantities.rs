//! From the texts of a specification to what Pods take: quantities, durations, resources.

use std::{collections::BTreeMap, time::Duration};

use crds::resources::{Amounts, Resources, Volume};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaimSpec, ResourceRequirements, VolumeResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

/// Longest duration that a specification may name.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads a duration, as `1h30m`, `90s` or `250ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let (unit, millis) = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]
            .into_iter()
            .find(|(unit, _)| rest.starts_with(unit))?;
        rest = rest.get(unit.len()..)?;
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
    }
    (!text.is_empty() && total <= DURATION_MAX).then_some(total)
}

/// Reads an amount of dollars with at most nine decimals, as nano-dollars.
pub(crate) fn nano_dollars(text: &str) -> Option<u64> {
    const DECIMALS: usize = 9;
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if DECIMALS < decimals.len() {
        return None;
    }
    format!("{whole}{decimals:0<DECIMALS$}").parse().ok()
}

/// The container's resources.
pub(crate) fn requirements(resources: Option<&Resources>) -> Option<ResourceRequirements> {
    let resources = resources?;
    Some(ResourceRequirements {
        requests: resources.requests.as_ref().map(amounts),
        limits: resources.limits.as_ref().map(amounts),
        claims: None,
    })
}

fn amounts(amounts: &Amounts) -> BTreeMap<String, Quantity> {
    let Amounts {
        cpu,
        memory,
        ephemeral_storage,
    } = amounts;
    [
        ("cpu", cpu),
        ("memory", memory),
        ("ephemeral-storage", ephemeral_storage),
    ]
    .into_iter()
    .filter_map(|(name, amount)| Some((name.to_owned(), Quantity(amount.clone()?))))
    .collect()
}

/// The claim for a volume.
pub(crate) fn claim(volume: &Volume) -> PersistentVolumeClaimSpec {
    let Volume {
        size,
        storage_class_name,
        access_mode,
    } = volume;
    PersistentVolumeClaimSpec {
        access_modes: Some(vec![access_mode.as_str().to_owned()]),
        storage_class_name: storage_class_name.clone(),
        resources: Some(VolumeResourceRequirements {
            requests: Some(BTreeMap::from([(
                "storage".to_owned(),
                Quantity(size.clone()),
            )])),
            limits: None,
        }),
        ..PersistentVolumeClaimSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::duration;

    #[track_caller]
    fn check(text: &str, millis: Option<u64>) {
        assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn durations_are_sums_of_parts() {
        check("100ms", Some(100));
        check("90s", Some(90_000));
        check("1h30m", Some(5_400_000));
        check("1m1ms", Some(60_001));
        check("168h", Some(604_800_000));
        check("169h", None);
        check("99999999999999999999h", None);
        check("10", None);
        check("5d", None);
        check("", None);
    }
}
