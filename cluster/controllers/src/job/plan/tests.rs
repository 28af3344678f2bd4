//! What a Job does about Pods in every state.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus},
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use super::{INDEX, Plan, plan};
use crate::conditions;

const NOW: i64 = 1000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn job(completions: Option<i32>, parallelism: i32) -> Job {
    let spec = JobSpec {
        completions,
        parallelism: Some(parallelism),
        backoff_limit: Some(1),
        ..JobSpec::default()
    };
    Job {
        spec: Some(spec),
        ..Job::default()
    }
}

fn pod(phase: &str, ended: Option<i64>) -> Arc<Pod> {
    let state = ContainerState {
        terminated: ended.map(|second| ContainerStateTerminated {
            finished_at: Some(Time(at(second))),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    let container = ContainerStatus {
        state: Some(state),
        ..ContainerStatus::default()
    };
    let status = PodStatus {
        phase: Some(phase.to_owned()),
        container_statuses: Some(vec![container]),
        ..PodStatus::default()
    };
    Arc::new(Pod {
        status: Some(status),
        ..Pod::default()
    })
}

fn ended_with(plan: &Plan) -> Option<(String, String)> {
    let conditions = plan.status.as_ref()?.status.as_ref()?.conditions.as_ref()?;
    ["Complete", "Failed"]
        .into_iter()
        .find_map(|kind| conditions::find(conditions, kind))
        .map(|condition| {
            (
                condition.type_.clone(),
                condition.reason.clone().unwrap_or_default(),
            )
        })
}

#[track_caller]
fn check(job: &Job, pods: &[Arc<Pod>], creates: usize, end: Option<(&str, &str)>) {
    let plan = plan(job, pods, at(NOW));
    assert_eq!(plan.create.len(), creates);
    assert_eq!(
        ended_with(&plan),
        end.map(|(kind, reason)| (kind.to_owned(), reason.to_owned()))
    );
}

#[test]
fn pods_are_created_until_enough_succeeded() {
    let succeeded = || pod("Succeeded", Some(NOW));
    let running = || pod("Running", None);
    let failed = |second| pod("Failed", Some(second));
    let complete = Some(("Complete", "CompletionsReached"));
    check(&job(Some(1), 1), &[], 1, None);
    check(&job(Some(1), 1), &[running()], 0, None);
    check(&job(Some(1), 1), &[succeeded()], 0, complete);
    check(&job(Some(3), 2), &[], 2, None);
    check(&job(Some(3), 2), &[succeeded(), succeeded()], 1, None);
    check(
        &job(Some(3), 2),
        &[succeeded(), succeeded(), succeeded()],
        0,
        complete,
    );
    check(&job(None, 2), &[succeeded(), running()], 0, None);
    check(&job(None, 2), &[succeeded(), succeeded()], 0, complete);
    check(&job(Some(1), 1), &[failed(NOW - 9)], 0, None);
    check(&job(Some(1), 1), &[failed(NOW - 10)], 1, None);
    check(
        &job(Some(1), 1),
        &[failed(0), failed(0)],
        0,
        Some(("Failed", "BackoffLimitExceeded")),
    );
}

#[test]
fn a_deadline_ends_a_job_and_its_pods() {
    let mut late = job(Some(1), 1);
    late.spec.as_mut().unwrap().active_deadline_seconds = Some(5);
    late.status.get_or_insert_default().start_time = Some(Time(at(NOW - 5)));
    let plan = plan(&late, &[pod("Running", None)], at(NOW));
    assert_eq!(
        ended_with(&plan),
        Some(("Failed".to_owned(), "DeadlineExceeded".to_owned()))
    );
    assert_eq!(plan.delete.len(), 1);
}

#[test]
fn a_finished_job_lives_as_long_as_its_ttl() {
    let mut ended = job(Some(1), 1);
    ended.spec.as_mut().unwrap().ttl_seconds_after_finished = Some(10);
    let first = plan(&ended, &[pod("Succeeded", Some(NOW))], at(NOW));
    assert_eq!(first.next, Some(Duration::from_secs(10)));
    let ended = first.status.unwrap();
    assert_eq!(
        plan(&ended, &[], at(NOW + 4)).next,
        Some(Duration::from_secs(6))
    );
    assert!(plan(&ended, &[], at(NOW + 10)).expired);
}

#[test]
fn a_suspended_job_stops_its_pods_and_says_so_once() {
    let mut suspended = job(Some(1), 1);
    suspended.spec.as_mut().unwrap().suspend = Some(true);
    let first = plan(&suspended, &[pod("Running", None)], at(NOW));
    assert_eq!((first.create.len(), first.delete.len()), (0, 1));
    let second = plan(&first.status.unwrap(), &[], at(NOW + 1));
    assert_eq!(plan(&second.status.unwrap(), &[], at(NOW + 2)).status, None);
}

#[test]
fn indexed_jobs_fill_the_indexes_that_are_free() {
    let mut indexed = job(Some(3), 3);
    indexed.spec.as_mut().unwrap().completion_mode = Some("Indexed".to_owned());
    let with_index = |pod: Arc<Pod>, index: &str| {
        let mut pod = Pod::clone(&pod);
        pod.metadata.annotations = Some([(INDEX.to_owned(), index.to_owned())].into());
        Arc::new(pod)
    };
    let pods = [
        with_index(pod("Succeeded", Some(NOW)), "1"),
        with_index(pod("Running", None), "0"),
    ];
    assert_eq!(plan(&indexed, &pods, at(NOW)).create, [Some(2)]);
}
