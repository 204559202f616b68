//! Tracks against what is known of a synthetic scene.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use flow_tests::command::{Flowrun, assert_balanced, json, lines};

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

/// Two scenes side by side, whose objects move, pass in front of each other and leave the picture. `truth` finds each as
/// far as it is visible.
const SCENES: &str = r#"
version: 1
sources:
  east: {type: synthetic, size: [640, 360], count: 300, seed: 3, objects: [8, 8]}
  west: {type: synthetic, size: [640, 360], count: 300, seed: 4, objects: [8, 8]}
stages:
  found: {type: truth, inputs: [east, west]}
  followed: {type: track, inputs: [found], replicas: 2, route: by_stream}
sinks:
  truth: {type: jsonl, inputs: [found], path: "truth-{stream}.jsonl"}
  tracks: {type: jsonl, inputs: [followed], path: "tracks-{stream}.jsonl"}
"#;

#[test]
fn objects_keep_their_numbers_while_they_pass_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("scenes.yaml"), SCENES).unwrap();
    let arguments = ["--quiet", "run", "scenes.yaml", "--summary", "summary.json"];
    Flowrun::new(FLOWRUN, path, arguments).run().expect(0);
    assert_balanced(&json(path.join("summary.json")));
    for stream in ["east", "west"] {
        let truth = lines(path.join(format!("truth-{stream}.jsonl")));
        let tracks = lines(path.join(format!("tracks-{stream}.jsonl")));
        assert_eq!((truth.len(), tracks.len()), (300, 300));
        // The boxes that overlap another one while both are to be seen.
        let mut meetings = 0;
        let mut numbers: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        let mut objects: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (truth, tracks) in truth.iter().zip(&tracks) {
            let truth = truth["detections"].as_array().unwrap();
            let corners = |v: &serde_json::Value| -> Vec<f64> {
                v["box"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|c| c.as_f64().unwrap())
                    .collect()
            };
            for (i, a) in truth.iter().enumerate() {
                let a = corners(a);
                let meets = |b: &serde_json::Value| {
                    let b = corners(b);
                    a[0].max(b[0]) < a[2].min(b[2]) && a[1].max(b[1]) < a[3].min(b[3])
                };
                meetings += truth.iter().skip(i + 1).filter(|b| meets(b)).count();
            }
            for found in tracks["detections"].as_array().unwrap() {
                let Some(track) = found.get("track").and_then(serde_json::Value::as_u64) else {
                    continue;
                };
                let same = |t: &&serde_json::Value| t["box"] == found["box"] && t["class"] == found["class"];
                let object = truth.iter().find(same).unwrap()["track"].as_u64().unwrap();
                numbers.entry(object).or_default().insert(track);
                objects.entry(track).or_default().insert(object);
            }
        }
        assert!(
            meetings > 300,
            "{stream}: only {meetings} boxes on each other, no test of anything"
        );
        // No number ever passes from one object to another; an object may get another one after it was away.
        assert!(objects.values().all(|o| o.len() == 1), "{stream}: {objects:?}");
        let (have, given) = (numbers.len(), objects.len());
        assert!(
            have == 8 && given <= 12,
            "{stream}: {have} objects got {given} numbers: {numbers:?}"
        );
        assert_eq!(
            objects.keys().copied().collect::<Vec<_>>(),
            (1..=given as u64).collect::<Vec<_>>()
        );
    }
}
