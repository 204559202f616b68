//! Video through pipes: standard input, standard output, and what happens when either end goes away.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use flow_tests::command::{Flowrun, assert_balanced, json, lines};
use flow_tests::media;

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

/// Frames from stdin, into a file.
const READ: &str = r#"
version: 1
sources:
  in: {type: file, path: "-", fps: 20}
stages:
  decode: {type: decode, inputs: [in]}
sinks:
  copy: {type: video, inputs: [decode], path: copy.y4m}
"#;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn flowrun(folder: &Path, file: &str, more: &[&str]) -> Flowrun {
    let fixed = ["--quiet", "run", file, "--summary"];
    let summary = file.replace("yaml", "json");
    let arguments = fixed
        .into_iter()
        .chain([summary.as_str()])
        .chain(more.iter().copied());
    Flowrun::new(FLOWRUN, folder, arguments)
}

/// Starts a process whose stdout another one reads.
fn producer(flowrun: Flowrun) -> Child {
    let mut command = flowrun.command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::inherit()).spawn().unwrap()
}

/// The frames of a Y4M clip, without the header.
fn frames(clip: &Path) -> Vec<u8> {
    let bytes = std::fs::read(clip).unwrap();
    assert!(bytes.starts_with(b"YUV4MPEG2 "));
    let header = bytes.iter().position(|&b| b == b'\n').unwrap();
    bytes[header + 1..].to_vec()
}

#[test]
fn frames_go_from_process_to_process_unchanged() {
    let write = r#"
version: 1
sources:
  scene: {type: synthetic, size: [64, 48], count: 30, seed: 5}
sinks:
  pipe: {type: video, inputs: [scene], path: "-"}
  file: {type: video, inputs: [scene], path: direct.y4m}
"#;
    let folder = folder(&[("write.yaml", write), ("read.yaml", READ)]);
    let path = folder.path();
    let mut writing = producer(flowrun(path, "write.yaml", &[]));
    let out = writing.stdout.take().unwrap();
    let finished = flowrun(path, "read.yaml", &[]).stdin(out).run().expect(0);
    assert_eq!(finished.stdout, "", "results only go where they were sent");
    assert_eq!(writing.wait().unwrap().code(), Some(0));
    assert!(frames(&path.join("direct.y4m")) == frames(&path.join("copy.y4m")));
    for name in ["write.json", "read.json"] {
        let summary = json(path.join(name));
        assert_balanced(&summary);
        assert_eq!(summary["ledger"]["out"], 30, "{name}");
    }
}

#[test]
fn mjpeg_goes_through_a_pipe_and_the_example_works_between_two() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pipes");
    let folder = tempfile::tempdir().unwrap();
    let scene = examples.join("scene.yaml");
    for format in ["y4m", "mjpeg"] {
        let writing = Flowrun::new(
            FLOWRUN,
            folder.path(),
            ["-q".as_ref(), "run".as_ref(), scene.as_os_str()],
        );
        let mut writing = producer(writing.env("FORMAT", format));
        let annotated = folder.path().join(format);
        let annotate = examples.join("annotate.yaml");
        let mut command = Flowrun::new(
            FLOWRUN,
            folder.path(),
            ["-q".as_ref(), "run".as_ref(), annotate.as_os_str()],
        )
        .command();
        command.stdin(writing.stdout.take().unwrap());
        command.stdout(File::create(&annotated).unwrap());
        assert_eq!(command.status().unwrap().code(), Some(0), "{format}");
        assert_eq!(writing.wait().unwrap().code(), Some(0), "{format}");
        let bytes = frames(&annotated);
        assert_eq!(bytes.len() % 50, 0, "50 frames of one size");
        assert!(bytes.starts_with(b"FRAME\n"));
    }
}

#[test]
fn a_frame_is_handed_on_before_the_next_one_comes() {
    let live = r#"
version: 1
sources:
  in: {type: file, path: "-"}
stages:
  decode: {type: decode, inputs: [in]}
  tensor: {type: resize, inputs: [decode], size: [8, 8]}
sinks:
  lines: {type: jsonl, inputs: [tensor], path: "-"}
"#;
    let folder = folder(&[("live.yaml", live)]);
    let small = media::y4m(32, 32, 3);
    let header = small.iter().position(|&b| b == b'\n').unwrap() + 1;
    let one = (small.len() - header) / 3;
    let y4m: Vec<&[u8]> = (0..3)
        .map(|i| {
            if i == 0 {
                &small[..header + one]
            } else {
                &small[header + i * one..][..one]
            }
        })
        .collect();
    let jpeg = flow_output::jpeg(&picture(), 80).unwrap();
    for pieces in [y4m, vec![&jpeg[..]; 3]] {
        let mut command = flowrun(folder.path(), "live.yaml", &[]).command();
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        for (seq, piece) in pieces.into_iter().enumerate() {
            stdin.write_all(piece).unwrap();
            let mut line = String::new();
            // Would wait for ever if the frame waited for what follows.
            stdout.read_line(&mut line).unwrap();
            assert!(line.contains(&format!(r#""seq":{seq},"#)), "{line}");
        }
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

fn picture() -> flow_frame::Frame {
    use flow_frame::{Buffer, ColorSpace, Frame, PixelFormat};
    // Enough detail for more than a probe of bytes.
    let noise: Vec<u8> = (0..96 * 96 * 3u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    Frame::packed(
        96,
        96,
        PixelFormat::Rgb,
        ColorSpace::JPEG,
        Buffer::copy_of(&noise),
    )
    .unwrap()
}

#[test]
fn what_is_cut_off_or_of_another_kind_is_said() {
    let folder = folder(&[("read.yaml", READ)]);
    let path = folder.path();
    let mut cut = media::y4m(32, 32, 4);
    cut.truncate(cut.len() - 100);
    let finished = flowrun(path, "read.yaml", &[]).input(cut).run().expect(3);
    assert!(
        finished.stderr.contains("frame 3 has 1436 of 1536 bytes"),
        "{}",
        finished.stderr
    );
    let summary = json(path.join("read.json"));
    assert_eq!(summary["ledger"]["out"], 3);
    assert_eq!(summary["ledger"]["dropped"]["error:E0506"], 1);
    assert_eq!(frames(&path.join("copy.y4m")).len(), 3 * (1536 + 6));

    let finished = flowrun(path, "read.yaml", &[])
        .input(b"hello".to_vec())
        .run()
        .expect(4);
    assert!(
        finished.stderr.contains("E0502") && finished.stderr.contains("hello"),
        "{}",
        finished.stderr
    );
    let header = b"YUV4MPEG2 W32 Hx F25:1\n".to_vec();
    let finished = flowrun(path, "read.yaml", &[]).input(header).run().expect(4);
    assert!(finished.stderr.contains("parameter `Hx`"), "{}", finished.stderr);
}

#[test]
fn a_reader_that_goes_away_ends_the_run_unless_it_is_optional() {
    for (required, code) in [("true", 4), ("false", 0)] {
        let write = format!(
            r#"
version: 1
sources:
  scene: {{type: synthetic, size: [64, 48], count: 400}}
stages:
  same: {{type: truth, inputs: [scene]}}
sinks:
  pipe: {{type: video, inputs: [scene], path: "-", required: {required}}}
  lines: {{type: jsonl, inputs: [same], path: lines.jsonl}}
"#
        );
        let folder = folder(&[("write.yaml", &write)]);
        let mut command = flowrun(folder.path(), "write.yaml", &[]).command();
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut begin = [0; 9];
        child.stdout.take().unwrap().read_exact(&mut begin).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("closed by the program that read it"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        if required == "false" {
            assert_eq!(lines(folder.path().join("lines.jsonl")).len(), 400);
        }
    }
}

#[test]
fn standard_streams_are_not_shared() {
    let folder = folder(&[]);
    let stdout = "version: 1\nsources:\n  in: {type: synthetic}\nsinks:\n  out: {type: video, inputs: [in], path: \"-\"}\n";
    let from_stdin = Flowrun::new(FLOWRUN, folder.path(), ["run", "-"])
        .input(READ.into())
        .run()
        .expect(2);
    assert!(
        from_stdin.stderr.contains("`in` is to read"),
        "{}",
        from_stdin.stderr
    );
    std::fs::write(folder.path().join("out.yaml"), stdout).unwrap();
    let mixed = Flowrun::new(FLOWRUN, folder.path(), ["run", "out.yaml", "--summary", "-"])
        .run()
        .expect(2);
    assert!(
        mixed.stderr.contains("`out` writes to standard output"),
        "{}",
        mixed.stderr
    );
}
