//! Video on standard output, for the program behind the pipe.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use flow_frame::Frame;

use crate::file::OutputError;
use crate::rate::{Clock, FrameRate};
use crate::y4m::Y4mEncoder;

/// Writes a stream of pictures to standard output as they come, each whole and at once.
pub(crate) struct Pipe {
    out: File,
    stream: Stream,
}

enum Stream {
    /// Nothing has been written yet.
    Empty,
    /// The first frame, which waits for the second to tell the frame rate that the header states.
    Held { frame: Frame, pts: Option<Duration> },
    /// The header is written.
    Y4m(Y4mEncoder),
}

impl Pipe {
    /// Takes standard output, unless a person would get the bytes to see.
    pub(crate) fn open() -> Result<Self, OutputError> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(OutputError::stdout(io::Error::other(
                "it is a terminal, which cannot show video; send it on with `| ffplay -`, or to a file with `> clip.y4m`",
            )));
        }
        // Pictures go past the buffer of `io::stdout`, which looks for lines.
        let out = stdout.as_fd().try_clone_to_owned().map_err(OutputError::stdout)?;
        Ok(Self {
            out: File::from(out),
            stream: Stream::Empty,
        })
    }

    #[cfg(test)]
    fn to(out: File) -> Self {
        Self {
            out,
            stream: Stream::Empty,
        }
    }

    /// Writes a JPEG picture.
    pub(crate) fn write_jpeg(&mut self, jpeg: &[u8]) -> Result<(), OutputError> {
        self.out.write_all(jpeg).map_err(OutputError::stdout)
    }

    /// Writes a frame as Y4M; all frames must be like the first.
    pub(crate) fn write_y4m(
        &mut self,
        frame: &Frame,
        pts: Option<Duration>,
        fps: FrameRate,
    ) -> Result<(), OutputError> {
        match std::mem::replace(&mut self.stream, Stream::Empty) {
            Stream::Empty if fps == FrameRate::AUTO => {
                let frame = frame.clone();
                self.stream = Stream::Held { frame, pts };
                return Ok(());
            }
            Stream::Empty => self.begin(frame, Clock::default().rate(fps))?,
            Stream::Held { frame, pts: first } => {
                let mut clock = Clock::default();
                clock.tick(first);
                clock.tick(pts);
                self.begin(&frame, clock.rate(fps))?;
                self.append(&frame)?;
            }
            begun => self.stream = begun,
        }
        self.append(frame)
    }

    /// Writes what is held back.
    pub(crate) fn finish(mut self, fps: FrameRate) -> Result<(), OutputError> {
        if let Stream::Held { frame, .. } = std::mem::replace(&mut self.stream, Stream::Empty) {
            self.begin(&frame, Clock::default().rate(fps))?;
            self.append(&frame)?;
        }
        Ok(())
    }

    fn begin(&mut self, frame: &Frame, rate: (u32, u32)) -> Result<(), OutputError> {
        let encoder = Y4mEncoder::of(frame);
        let header = encoder.header(&format!("{}:{}", rate.0, rate.1));
        self.out
            .write_all(header.as_bytes())
            .map_err(OutputError::stdout)?;
        self.stream = Stream::Y4m(encoder);
        Ok(())
    }

    fn append(&mut self, frame: &Frame) -> Result<(), OutputError> {
        let Stream::Y4m(encoder) = &mut self.stream else {
            return Ok(());
        };
        let bytes = encoder.encode(frame).map_err(|why| OutputError::Frame {
            path: PathBuf::from("standard output"),
            why,
        })?;
        self.out.write_all(bytes).map_err(OutputError::stdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::tests::flat;
    use flow_frame::PixelFormat;
    use std::io::{Read, Seek};

    fn written(fps: FrameRate, times: &[u64]) -> String {
        let mut file = tempfile::tempfile().unwrap();
        let mut pipe = Pipe::to(file.try_clone().unwrap());
        for (i, &ms) in times.iter().enumerate() {
            let frame = flat(2, 2, PixelFormat::Gray, b'a' + i as u8);
            pipe.write_y4m(&frame, Some(Duration::from_millis(ms)), fps)
                .unwrap();
        }
        pipe.finish(fps).unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_header_states_the_rate_of_the_first_two_frames() {
        let head = |rate: &str| format!("YUV4MPEG2 F{rate} W2 H2 Ip A1:1 Cmono XCOLORRANGE=FULL\n");
        let frames = "FRAME\naaaaFRAME\nbbbbFRAME\ncccc";
        assert_eq!(written(FrameRate::AUTO, &[0, 20, 40]), head("50:1") + frames);
        assert_eq!(
            written(FrameRate::Fixed(10.0), &[0, 20, 40]),
            head("10000:1000") + frames
        );
        assert_eq!(written(FrameRate::AUTO, &[0]), head("25:1") + "FRAME\naaaa");
        assert_eq!(written(FrameRate::AUTO, &[]), "");
    }

    #[test]
    fn a_frame_of_another_size_is_refused_and_the_stream_goes_on() {
        let mut pipe = Pipe::to(tempfile::tempfile().unwrap());
        let fps = FrameRate::Fixed(25.0);
        let mut write = |width| pipe.write_y4m(&flat(width, 2, PixelFormat::Gray, 0), None, fps);
        write(2).unwrap();
        assert!(write(4).unwrap_err().to_string().contains("4x2"));
        write(2).unwrap();
    }
}
