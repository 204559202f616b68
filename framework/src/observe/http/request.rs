//! Reading a request.

use std::net::IpAddr;

use super::Response;

/// Most bytes of a request before its content.
pub const MAX_HEAD: usize = 8 << 10;

/// Most bytes of content.
pub const MAX_BODY: usize = 64 << 10;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// What follows `?`, undecoded.
    pub query: String,
    /// What `Authorization: Bearer` holds.
    pub token: Option<String>,
    /// The content.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a request; `None`: it is not whole yet. The error is what to answer.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Response> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return match bytes.len() > MAX_HEAD {
                true => Err(Response::text(431, "the request is too long\n")),
                false => Ok(None),
            };
        };
        let bad = |what: &str| Response::text(400, format!("{what}\n"));
        let head = bytes.get(..end).unwrap_or_default();
        let head = std::str::from_utf8(head).map_err(|_| bad("the request is not UTF-8"))?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
            return Err(bad("the first line is no request"));
        };
        if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
            return Err(bad("the first line is no request of HTTP/1"));
        }
        let (mut host, mut length, mut token) = (None, 0, None);
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| bad("a header without `:`"))?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "host" => host = Some(value),
                "content-length" => length = value.parse().map_err(|_| bad("Content-Length is no number"))?,
                "transfer-encoding" => return Err(bad("send the content with Content-Length")),
                "authorization" => token = value.strip_prefix("Bearer ").map(|t| t.trim().to_owned()),
                _ => {}
            }
        }
        if !host.is_some_and(is_local_name) {
            return Err(Response::text(
                403,
                "ask for this server by `localhost` or by its address\n",
            ));
        }
        if length > MAX_BODY {
            return Err(Response::text(413, "the content is too long\n"));
        }
        let Some(body) = bytes.get(end + 4..end + 4 + length) else {
            return Ok(None);
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            token,
            body: body.to_vec(),
        }))
    }

    /// Value of a key of the query; `%XX` and `+` decoded.
    pub fn query_value(&self, key: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .into_iter()
            .find(|(k, _)| *k == key)
            .map(|(_, value)| decoded(value))
    }
}

/// `localhost` or an address, with or without a port.
fn is_local_name(host: &str) -> bool {
    if let Some(inside) = host.strip_prefix('[') {
        return inside
            .split_once(']')
            .is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_tokens_are_read() {
        let text = b"GET /p?stage=draw%20it&x=1+2 HTTP/1.1\r\nHost: localhost:9\r\nAuthorization: Bearer abc\r\n\r\n";
        let request = Request::parse(text).unwrap().unwrap();
        assert_eq!(request.query_value("stage").as_deref(), Some("draw it"));
        assert_eq!(request.query_value("x").as_deref(), Some("1 2"));
        assert_eq!(request.query_value("y"), None);
        assert_eq!(request.token.as_deref(), Some("abc"));
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%é"), "%é");
    }

    #[test]
    fn only_addresses_and_localhost_are_local() {
        for name in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:9898",
            "[::1]:80",
            "192.168.0.7",
        ] {
            assert!(is_local_name(name), "{name}");
        }
        for name in [
            "",
            "evil.example",
            "localhost.evil.example:80",
            "[x]",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_local_name(name), "{name}");
        }
    }

    #[test]
    fn a_request_in_pieces_is_waited_for() {
        let whole = b"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 3\r\n\r\nabc";
        let whole = &whole[..];
        for cut in 0..whole.len() {
            assert_eq!(
                Request::parse(&whole[..cut]).map(|r| r.is_none()),
                Ok(true),
                "{cut}"
            );
        }
    }
}
