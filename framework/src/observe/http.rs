//! A small HTTP server for the local machine: one thread, bounded in connections, bytes and time.
//!
//! It speaks as much of HTTP/1.1 as a browser, curl and Prometheus need: one request for each connection. Names in
//! `Host` that are no address are refused but for `localhost`, so that a page from elsewhere cannot reach it through a
//! name that its owner points here.

mod request;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use request::{MAX_BODY, MAX_HEAD, Request};

/// Most connections at one time; a further one is closed at once.
const CONNECTIONS: usize = 32;

/// Longest time from connection to the last byte of the response.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time between two looks at the connections while there are any, and while there are none.
const STEPS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(25));

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The content.
    pub body: Vec<u8>,
}

impl Response {
    /// Text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: text.into().into_bytes(),
        }
    }

    /// A value as JSON.
    pub fn json(status: u16, value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec_pretty(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Self {
                    status,
                    content_type: "application/json",
                    body,
                }
            }
            Err(error) => Self::text(500, format!("{error}\n")),
        }
    }

    /// The response as it goes over the wire.
    fn bytes(&self, head_only: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            202 => "Accepted",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            413 => "Content Too Large",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Error",
        };
        let mut bytes = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
             Content-Security-Policy: default-src 'self' 'unsafe-inline'; img-src 'self' data:\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len()
        )
        .into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// The server; it ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers requests to a listener on one thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        listener: TcpListener,
        mut answer: impl FnMut(&Request) -> Response + Send + 'static,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
            let mut connections: Vec<Connection> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                accept(&listener, &mut connections);
                connections.retain_mut(|connection| connection.go_on(&mut answer));
                let step = if connections.is_empty() { STEPS.1 } else { STEPS.0 };
                std::thread::sleep(step);
            }
        })?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, connections: &mut Vec<Connection>) {
    // More than that at once wait for the next look.
    for _ in 0..CONNECTIONS {
        let Ok((stream, _)) = listener.accept() else {
            return;
        };
        if connections.len() < CONNECTIONS && stream.set_nonblocking(true).is_ok() {
            connections.push(Connection {
                stream,
                received: Vec::new(),
                answer: Vec::new(),
                sent: 0,
                until: Instant::now() + PATIENCE,
            });
        }
    }
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// Empty until the request is whole.
    answer: Vec<u8>,
    sent: usize,
    until: Instant,
}

impl Connection {
    /// Reads and writes what can be; `false`: the connection is done.
    fn go_on(&mut self, answer: &mut impl FnMut(&Request) -> Response) -> bool {
        if Instant::now() > self.until {
            return false;
        }
        if self.answer.is_empty() {
            let open = self.receive();
            match Request::parse(&self.received) {
                Ok(None) => return open,
                Ok(Some(request)) => {
                    let head_only = request.method == "HEAD";
                    self.answer = answer(&request).bytes(head_only);
                }
                Err(refusal) => self.answer = refusal.bytes(false),
            }
        }
        self.send()
    }

    /// Receives what is there; `false`: there will be no more.
    fn receive(&mut self) -> bool {
        let mut chunk = [0; 4096];
        while self.received.len() <= MAX_HEAD + MAX_BODY {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(n) => self
                    .received
                    .extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) => return matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            }
        }
        true
    }

    /// Sends what can be sent; `false`: all is sent, or nobody takes it.
    fn send(&mut self) -> bool {
        while let Some(rest) = self.answer.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return false,
                Ok(n) => self.sent += n,
                Err(e) => return matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            }
        }
        // Closing with unread bytes would reset the connection under the response.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        let mut rest = [0; 4096];
        let _ = self.stream.read(&mut rest);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Server::start(listener, |request| {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            Response::text(200, format!("{} {} {body}", request.method, request.path))
        })
        .unwrap()
    }

    fn say(server: &Server, text: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn requests_are_answered_one_for_each_connection() {
        let server = server();
        let answer = say(&server, "GET /metrics?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("GET /metrics "),
            "{answer}"
        );
        let answer = say(
            &server,
            "POST /x HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 5\r\n\r\nhello",
        );
        assert!(answer.ends_with("POST /x hello"), "{answer}");
        let answer = say(&server, "HEAD /x HTTP/1.1\r\nHost: [::1]\r\n\r\n");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[test]
    fn a_silent_connection_holds_up_nobody_and_too_many_are_closed() {
        let server = server();
        let silent: Vec<TcpStream> = (0..8)
            .map(|_| TcpStream::connect(server.address()).unwrap())
            .collect();
        let answer = say(&server, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(silent);
    }

    #[test]
    fn strange_requests_are_refused() {
        let server = server();
        let refused = |text: &str, status: &str| {
            let answer = say(&server, text);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{text}: {answer}"
            );
        };
        refused("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403");
        refused("GET / HTTP/1.1\r\n\r\n", "403");
        refused("nonsense\r\n\r\n", "400");
        refused(
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n",
            "413",
        );
        refused(
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400",
        );
        refused(
            &format!(
                "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n",
                "y".repeat(MAX_HEAD)
            ),
            "431",
        );
    }
}
