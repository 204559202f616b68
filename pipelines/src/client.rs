//! A client for the HTTP server of a running pipeline: one request for each connection.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::failure::{FAILED, Failure};

const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of an answer that are read.
const LONGEST: u64 = 16 << 20;

/// Where a pipeline is served by default.
pub const DEFAULT: &str = "127.0.0.1:9898";

/// `HOST:PORT` of a URL such as `http://127.0.0.1:9898/`, or of an address with a port; `None`: it is neither.
pub fn url(text: &str) -> Option<String> {
    let rest = text.strip_prefix("http://");
    let host = rest.unwrap_or(text).trim_end_matches('/');
    let port = host.rsplit_once(':').map(|(_, port)| port.parse::<u16>().is_ok());
    match (rest, port) {
        (Some(_), Some(true)) => Some(host.to_owned()),
        (Some(_), _) => Some(format!("{host}:80")),
        (None, Some(true)) if !host.contains('/') => Some(host.to_owned()),
        _ => None,
    }
}

/// The content that is answered to a GET.
pub fn get(host: &str, path: &str) -> Result<String, Failure> {
    request(host, "GET", path, None, "")
}

/// The content that is answered to a request.
pub fn request(
    host: &str,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> Result<String, Failure> {
    let (status, content) = exchange(host, method, path, token, body).map_err(|e| Failure::Other {
        exit: FAILED,
        code: None,
        message: format!("no answer from http://{host}: {e}; is a pipeline running with `--http`?"),
    })?;
    if (200..300).contains(&status) {
        return Ok(content);
    }
    Err(Failure::Other {
        exit: FAILED,
        code: None,
        message: format!("http://{host}{path} answers {status}: {}", content.trim()),
    })
}

fn exchange(
    host: &str,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let wrong = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let address = host
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| wrong("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    // By its address: names other than localhost are refused.
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n{authorization}\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).map_err(|_| wrong("the answer is not text"))?;
    let (head, content) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| wrong("the answer is cut off"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((
        status.ok_or_else(|| wrong("the answer is not HTTP"))?,
        content.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_files() {
        assert_eq!(url("http://127.0.0.1:9898/"), Some("127.0.0.1:9898".into()));
        assert_eq!(url("localhost:9898"), Some("localhost:9898".into()));
        assert_eq!(url("http://box"), Some("box:80".into()));
        for file in ["dock.yaml", "out/summary.json", "C:dock", "/a:b/9"] {
            assert_eq!(url(file), None, "{file}");
        }
    }
}
