//! Ctrl-C, and going on.

use std::path::Path;
use std::time::{Duration, Instant};

use flow_tests::command::Flowrun;

use crate::{FLOWRUN, PREPROCESS, clip, detector, names};

fn start(folder: &Path) -> flow_tests::command::Running {
    let (model, clip) = (detector(), clip());
    // A pass for each layer: long enough to be interrupted in.
    let arguments = [
        "model",
        "quantize",
        &model,
        "--data",
        &clip,
        "--subset",
        "12",
        "--preprocess",
        PREPROCESS,
        "--bias",
        "full",
        "-o",
        "q.xml",
        "--threads",
        "1",
    ];
    Flowrun::new(FLOWRUN, folder, arguments).start()
}

fn interrupt(process: &flow_tests::command::Running) {
    let id = libc::pid_t::try_from(process.id()).unwrap();
    // SAFETY: the process is a child that has not been waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(id, libc::SIGINT) }, 0);
}

#[test]
fn an_interrupted_command_leaves_its_state_alone_and_goes_on_there() {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    start(folder.path()).wait().expect(0);
    let whole = began.elapsed();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let (xml, bin) = (read("q.xml"), read("q.bin"));
    assert_eq!(names(folder.path()), ["q.bin", "q.xml"]);
    std::fs::remove_file(folder.path().join("q.xml")).unwrap();
    std::fs::remove_file(folder.path().join("q.bin")).unwrap();
    // Later and later, until it is interrupted when there is something to keep.
    let mut kept = false;
    for tenths in [5, 6, 7, 8, 9] {
        let process = start(folder.path());
        std::thread::sleep(
            whole
                .mul_f64(f64::from(tenths) / 10.0)
                .max(Duration::from_millis(200)),
        );
        interrupt(&process);
        let finished = process.wait();
        if finished.code == Some(0) {
            break;
        }
        let finished = finished.expect(4);
        assert!(finished.stderr.contains("stopped"), "{}", finished.stderr);
        kept = finished.stderr.contains("q.xml.calibration");
        let left: &[&str] = if kept { &["q.xml.calibration"] } else { &[] };
        assert_eq!(names(folder.path()), left);
        if kept {
            break;
        }
    }
    let finished = start(folder.path()).wait().expect(0);
    assert_eq!(
        kept,
        finished.stderr.contains("going on with"),
        "{}",
        finished.stderr
    );
    assert!(read("q.xml") == xml && read("q.bin") == bin);
    assert_eq!(names(folder.path()), ["q.bin", "q.xml"]);
}
