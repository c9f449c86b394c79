//! The page of `graph-dump --format html` in a real browser: it loads, a click shows a node's facts, a search finds nodes, the
//! passes can be stepped through. Chromium is driven through its DevTools protocol on a pair of pipes.
//!
//! Without Chromium the test says so and passes; `CHROMIUM` names another program, and `ROCMFORGE_SCREENSHOTS` a folder that keeps
//! the pictures.
#![cfg(all(feature = "cli", unix))]

mod support;

use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use support::shapes::LLAMA_1B;

const PATIENCE: Duration = Duration::from_secs(60);

fn chromium() -> Option<String> {
    let named = std::env::var("CHROMIUM").ok();
    let names = ["chromium", "chromium-browser", "google-chrome"].map(str::to_string);
    named.into_iter().chain(names).find(|name| {
        let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    })
}

/// A running browser with one page.
struct Browser {
    child: Child,
    to: File,
    from: Receiver<Value>,
    next: u64,
    session: Option<String>,
    /// Exceptions that the page's script threw.
    exceptions: Vec<String>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    fn start(program: &str, folder: &Path) -> Browser {
        let (to, from) = (folder.join("to"), folder.join("from"));
        assert!(Command::new("mkfifo").args([&to, &from]).status().unwrap().success());
        let flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --remote-debugging-pipe";
        let profile = folder.join("profile");
        let child = Command::new("sh")
            .args(["-c", &format!("exec \"$0\" {flags} --user-data-dir=\"$1\" 3<\"$2\" 4>\"$3\"")])
            .args([program.as_ref(), profile.as_os_str(), to.as_os_str(), from.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = File::options().write(true).open(to).unwrap();
        let mut reader = BufReader::new(File::open(from).unwrap());
        let (send, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while reader.read_until(0, &mut message).is_ok_and(|n| n > 0) {
                message.pop();
                if serde_json::from_slice(&message).is_ok_and(|value| send.send(value).is_err()) {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Browser { child, to, from, next: 0, session: None, exceptions: Vec::new() };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let params = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", params)["sessionId"].as_str().unwrap().to_string();
        browser.session = Some(session);
        browser.call("Runtime.enable", json!({}));
        let size = json!({ "width": 1500, "height": 950, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        browser
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let answer = self.from.recv_timeout(left).unwrap_or_else(|e| panic!("{method}: no answer: {e}"));
            if answer["method"] == "Runtime.exceptionThrown" {
                self.exceptions.push(answer["params"]["exceptionDetails"].to_string());
            }
            if answer["id"] == self.next {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    /// The value of a JavaScript expression.
    fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    fn text(&mut self, expression: &str) -> String {
        self.eval(expression).as_str().unwrap_or_else(|| panic!("{expression} is no text")).to_string()
    }

    fn number(&mut self, expression: &str) -> u64 {
        self.eval(expression).as_u64().unwrap_or_else(|| panic!("{expression} is no number"))
    }

    /// Loads a page and waits until its script has run.
    fn open(&mut self, path: &Path, hash: &str) {
        // A change of the hash alone would not load the page again.
        self.call("Page.navigate", json!({ "url": "about:blank" }));
        self.call("Page.navigate", json!({ "url": format!("file://{}{hash}", path.display()) }));
        let start = Instant::now();
        while self.eval("document.documentElement && document.documentElement.dataset.ready") != "yes" {
            assert!(start.elapsed() < PATIENCE, "the page did not become ready: {:?}", self.exceptions);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn mouse(&mut self, kind: &str, x: f64, y: f64, more: Value) {
        let mut params = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.call("Input.dispatchMouseEvent", params);
    }

    /// A real click in the middle of the element that a selector finds.
    fn click(&mut self, selector: &str) {
        let (x, y) = self.middle(selector);
        self.mouse("mousePressed", x, y, json!({}));
        self.mouse("mouseReleased", x, y, json!({}));
    }

    fn middle(&mut self, selector: &str) -> (f64, f64) {
        let at = format!("(() => {{ const r = document.querySelector({selector:?}).getBoundingClientRect();");
        let middle = self.eval(&format!("{at} return [r.left + r.width / 2, r.top + r.height / 2]; }})()"));
        (middle[0].as_f64().unwrap(), middle[1].as_f64().unwrap())
    }

    fn key(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key }));
        }
    }

    fn screenshot(&mut self, name: &str) {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let png = base64(answer["data"].as_str().unwrap());
        assert!(png.starts_with(b"\x89PNG") && png.len() > 20_000, "{name}: {} bytes", png.len());
        if let Some(folder) = std::env::var_os("ROCMFORGE_SCREENSHOTS") {
            std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), png).unwrap();
        }
    }
}

fn base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for c in text.bytes().filter(|&c| c != b'=') {
        bits = bits << 6 | alphabet.iter().position(|&a| a == c).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

const PANEL: &str = "document.getElementById('panel').innerText";
const STAGE: &str = "document.getElementById('stage').textContent";
const FOUND: &str = "document.getElementById('found').textContent";
const MOVED: &str = "document.getElementById('view').getAttribute('transform')";

/// The key of the box of a node, by its label.
fn key(browser: &mut Browser, label: &str) -> String {
    browser.text(&format!(
        "Array.from(document.querySelectorAll('.node')).find((n) => Array.from(n.querySelectorAll('text')).some((t) => t.textContent === {label:?})).dataset.key"
    ))
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(program) = chromium() else {
        eprintln!("Chromium absent: skipped (Debian: apt-get install chromium)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let model = LLAMA_1B.write(folder.path(), "llama-1b.gguf");
    let page = folder.path().join("page.html");
    let status = Command::new(env!("CARGO_BIN_EXE_graph-dump"))
        .args(["--phase", "decode", "--format", "html", "--threads", "4", "--model"])
        .args([&model, Path::new("--out"), &page])
        .status()
        .unwrap();
    assert!(status.success());
    let mut browser = Browser::start(&program, folder.path());

    // It loads, alone.
    browser.open(&page, "");
    assert_eq!(browser.text("document.title"), "llama-1b");
    assert_eq!(browser.number("performance.getEntriesByType('resource').length"), 0, "nothing is fetched");
    assert_eq!(browser.text(STAGE), "plan");
    let nodes = browser.number("document.querySelectorAll('#graph .node').length");
    assert!((10..100).contains(&nodes), "{nodes} boxes");
    let panel = browser.text(PANEL);
    assert!(panel.contains("launches") && panel.contains("allocated") && panel.contains("rms_norm_mul"), "{panel}");
    browser.screenshot("overview");

    // A click shows a node's facts.
    let norm = key(&mut browser, "blk.0.attn_norm");
    browser.click(&format!("[data-key='{norm}'] rect"));
    let panel = browser.text(PANEL);
    for fact in ["blk.0.attn_norm", "rms_norm_mul", "fused from", "lives", "Step 1 of", "embedding"] {
        assert!(panel.contains(fact), "{panel:?} lacks {fact:?}");
    }
    assert_eq!(browser.number("document.querySelectorAll('#graph .node.selected').length"), 1);
    assert!(browser.number("document.querySelectorAll('.buffer.selected').length") >= 1);
    assert_eq!(browser.text("location.hash"), format!("#node={norm}"));
    browser.screenshot("click");
    // A link in the panel goes to another node.
    browser.click("#panel a[data-link]");
    assert!(browser.text(PANEL).contains("get_rows"));

    // A search finds nodes, and Enter goes from one to the next.
    browser.click("#search");
    browser.call("Input.insertText", json!({ "text": "blk.0.ffn_down q4_k" }));
    assert_eq!(browser.text(FOUND), "1 found", "a weight is found in the box that reads it");
    browser.eval("document.getElementById('search').select()");
    browser.call("Input.insertText", json!({ "text": "ffn" }));
    let hits = browser.number("document.querySelectorAll('#graph .node.hit').length");
    assert!(hits >= 3, "{hits} boxes are marked");
    assert_eq!(browser.text(FOUND), format!("{hits} found"));
    browser.screenshot("search");
    browser.key("Enter");
    assert!(browser.text(PANEL).contains("ffn"));
    browser.key("Escape");
    assert_eq!(browser.text(FOUND), "");

    // The passes can be stepped through.
    let stages = browser.number("Number(document.getElementById('slider').max)");
    browser.click("#before");
    assert!(browser.text(STAGE).starts_with("after:"));
    for _ in 0..stages {
        browser.key("ArrowLeft");
    }
    assert_eq!(browser.text(STAGE), "source");
    let unfused = browser.number("document.querySelectorAll('#graph .node').length");
    assert!(unfused > nodes, "{unfused} boxes before the passes, {nodes} after");
    browser.click("#fit");
    browser.screenshot("source");

    // Wheel and drag move the picture.
    let before = browser.text(MOVED);
    let (x, y) = browser.middle("#canvas");
    browser.mouse("mouseWheel", x, y, json!({ "deltaX": 0, "deltaY": -300 }));
    let zoomed = browser.text(MOVED);
    assert_ne!(before, zoomed);
    browser.mouse("mousePressed", x, y, json!({}));
    browser.mouse("mouseMoved", x + 90.0, y + 40.0, json!({ "buttons": 1 }));
    browser.mouse("mouseReleased", x + 90.0, y + 40.0, json!({}));
    assert_ne!(browser.text(MOVED), zoomed);

    // A buffer in the picture of lifetimes leads to its node; dark is another look.
    browser.open(&page, "");
    let largest = "Array.from(document.querySelectorAll('.buffer')).map((b) => [b.getBBox().width * b.getBBox().height, b.dataset.buffer])";
    let buffer = browser.text(&format!("{largest}.sort((a, b) => b[0] - a[0])[0][1]"));
    browser.click(&format!("[data-buffer='{buffer}'] rect"));
    assert!(browser.text(PANEL).contains(&format!("Buffer {buffer}")));
    browser.click("#theme");
    assert_eq!(browser.text("document.documentElement.dataset.theme"), "dark");
    browser.screenshot("dark");

    // An address leads to a stage, a node and a search.
    browser.open(&page, "#stage=source&node=blk.0.attn_norm&search=soft_max");
    assert_eq!(browser.text(STAGE), "source");
    assert_eq!(browser.text(FOUND), "1 found");
    assert!(browser.text(PANEL).contains("mul(") && browser.text(PANEL).contains("blk.0.attn_norm"));
    assert_eq!(browser.text("document.querySelector('#graph .selected').dataset.key"), norm);
    browser.open(&page, "#node=blk.0.attn_k");
    assert!(browser.text(PANEL).starts_with("blk.0.attn_q + blk.0.attn_k"), "a member of a group is found");
    browser.open(&page, "#node=n999999");
    assert!(browser.text(PANEL).contains("not in the graph"));
    assert!(browser.exceptions.is_empty(), "{:?}", browser.exceptions);
}

/// A page of measured times: boxes have the colour of their time, and facts tell it.
#[test]
fn the_page_shows_where_the_time_goes() {
    let Some(program) = chromium() else {
        eprintln!("Chromium absent: skipped (Debian: apt-get install chromium)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let model = support::scripted::Scripted::default().write(folder.path(), "scripted.gguf");
    let page = folder.path().join("page.html");
    let status = Command::new(env!("CARGO_BIN_EXE_graph-dump"))
        .args([
            "--profile",
            "--device",
            "cpu",
            "--ctx",
            "16",
            "--repetitions",
            "2",
            "--format",
            "html",
            "--threads",
            "2",
            "--model",
        ])
        .args([&model, Path::new("--out"), &page])
        .status()
        .unwrap();
    assert!(status.success());
    let mut browser = Browser::start(&program, folder.path());
    browser.open(&page, "");
    let panel = browser.text(PANEL);
    for part in ["Measured", "decode at depth 15", "The slowest steps", "roofline"] {
        assert!(panel.contains(part), "{panel:?} lacks {part:?}");
    }
    let timed = "#graph .node.timed";
    let count = browser.number(&format!("document.querySelectorAll('{timed}').length"));
    assert!(count > 3, "{count} boxes have a time");
    let first = browser.text(&format!("document.querySelector('{timed}').dataset.key"));
    let fill = format!("getComputedStyle(document.querySelector('#graph [data-key=\"{first}\"] > rect')).fill");
    let by_time = browser.text(&fill);
    // A slow step of the list leads to its node, which tells its time.
    browser.click("#panel .times a[data-link]");
    let panel = browser.text(PANEL);
    assert!(panel.contains("of the run") && panel.contains("allows"), "{panel}");
    browser.screenshot("heat");
    browser.click("#heat");
    assert_eq!(browser.text("document.getElementById('heat').textContent"), "Heat: roofline");
    let by_roofline = browser.text(&fill);
    browser.click("#heat");
    let by_kind = browser.text(&fill);
    assert!(by_time != by_roofline && by_time != by_kind, "{by_time}, {by_roofline}, {by_kind}");
    assert_eq!(browser.number(&format!("document.querySelectorAll('{timed}').length")), 0);
    browser.click("#heat");
    browser.click("#before");
    assert_eq!(browser.number(&format!("document.querySelectorAll('{timed}').length")), 0, "only the plan is measured");
    assert!(browser.exceptions.is_empty(), "{:?}", browser.exceptions);
}
