//! The topology of another machine, from an XML file that hwloc 2 wrote there (`lstopo machine.xml`).
//!
//! Format: hwloc's `hwloc2.dtd`. Objects nest by what they contain; a NUMA node is a child of what it is the memory of;
//! kinds of cores are lists of CPUs beside the tree.

use roxmltree::{Document, Node, ParsingOptions};

use super::{Cache, CoreClass, Cpu, Origin, Topology};

/// Largest file; exports of machines with thousands of CPUs stay below.
const MAX_BYTES: usize = 32 << 20;
/// CPUs of the largest machine, and of any set.
const MAX_CPUS: usize = 8192;

/// Why a recorded topology cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordedError {
    /// Not what hwloc 2 writes.
    #[error("it is not a topology that hwloc 2 exported ({0}); record one with `lstopo machine.xml`")]
    Format(String),
    /// A value that cannot be read.
    #[error("line {line}: `{attribute}` of an object `{object}` is \"{value}\", expected {expected}")]
    Value {
        /// Line in the file.
        line: u32,
        /// Type of the object.
        object: String,
        /// The attribute.
        attribute: &'static str,
        /// What it holds; empty where it is missing.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
}

impl Topology {
    /// Reads what hwloc 2 exported as XML, and the CPUs that processes may use there.
    ///
    /// # Errors
    /// When it is something else, or an export of hwloc 1.
    pub fn from_hwloc_xml(text: &str) -> Result<(Self, Vec<usize>), RecordedError> {
        let format = |what: String| RecordedError::Format(what);
        if text.len() > MAX_BYTES {
            return Err(format(format!(
                "it has {} bytes, the limit is {MAX_BYTES}",
                text.len()
            )));
        }
        let options = ParsingOptions {
            // hwloc names its DTD; nothing of it is read.
            allow_dtd: true,
            ..ParsingOptions::default()
        };
        let document = Document::parse_with_options(text, options).map_err(|e| format(e.to_string()))?;
        let root = document.root_element();
        if root.tag_name().name() != "topology" {
            return Err(format(format!("the document is a <{}>", root.tag_name().name())));
        }
        match root.attribute("version") {
            Some(version) if version.starts_with("2.") => {}
            Some(version) => return Err(format(format!("its format is {version}, expected 2"))),
            None => return Err(format("its format is that of hwloc 1".into())),
        }
        let mut reader = Reader::default();
        let classes = classes(root)?;
        for machine in root.children().filter(|n| n.has_tag_name("object")) {
            reader.object(machine, &Above::default())?;
        }
        reader.finish(&classes)
    }
}

/// What a CPU lies in.
#[derive(Clone, Default)]
struct Above {
    core: Option<usize>,
    package: usize,
}

#[derive(Default)]
struct Reader {
    cpus: Vec<Cpu>,
    /// NUMA nodes with their CPUs, innermost first.
    nodes: Vec<(usize, Vec<usize>)>,
    caches: Vec<Cache>,
    allowed: Option<Vec<usize>>,
    /// Number of cores so far; CPUs of one are known by it until all are read.
    cores: usize,
}

impl Reader {
    /// Reads an object and what lies in it; gives its CPUs.
    fn object(&mut self, node: Node<'_, '_>, above: &Above) -> Result<Vec<usize>, RecordedError> {
        let kind = node.attribute("type").unwrap_or_default();
        let mut above = above.clone();
        match kind {
            "PU" => return self.cpu(node, &above).map(|id| vec![id]),
            "Package" => above.package = number(node, "os_index", MAX_CPUS)?,
            "Core" => {
                self.cores += 1;
                above.core = Some(self.cores);
            }
            "Machine" => {
                self.allowed = node
                    .attribute("allowed_cpuset")
                    .map(|_| set(node, "allowed_cpuset"))
                    .transpose()?;
            }
            _ => {}
        }
        let mut cpus = Vec::new();
        let mut nodes = Vec::new();
        for child in node.children().filter(|n| n.has_tag_name("object")) {
            match child.attribute("type") {
                Some("NUMANode") => nodes.push(number(child, "os_index", MAX_CPUS)?),
                // Memory-side caches stand between a NUMA node and what it is the memory of.
                Some("MemCache") => {
                    let inner = child
                        .descendants()
                        .filter(|n| n.attribute("type") == Some("NUMANode"));
                    for inner in inner {
                        nodes.push(number(inner, "os_index", MAX_CPUS)?);
                    }
                }
                _ => cpus.extend(self.object(child, &above)?),
            }
        }
        cpus.sort_unstable();
        self.nodes
            .extend(nodes.into_iter().map(|node| (node, cpus.clone())));
        let level = match kind {
            "L1Cache" => 1,
            "L2Cache" => 2,
            "L3Cache" => 3,
            _ => return Ok(cpus),
        };
        let bytes = node.attribute("cache_size").and_then(|v| v.parse().ok());
        let line = node.attribute("cache_linesize").and_then(|v| v.parse().ok());
        self.caches.push(Cache {
            level,
            bytes: bytes.unwrap_or(0),
            line: line.unwrap_or(0),
            cpus: cpus.clone(),
        });
        Ok(cpus)
    }

    fn cpu(&mut self, node: Node<'_, '_>, above: &Above) -> Result<usize, RecordedError> {
        let id = number(node, "os_index", MAX_CPUS)?;
        if self.cpus.iter().any(|cpu| cpu.id == id) {
            return Err(value(node, "os_index", "a number that no other PU has"));
        }
        self.cpus.push(Cpu {
            id,
            // CPUs that belong to no core are cores of their own.
            core: above.core.unwrap_or(MAX_CPUS + id),
            package: above.package,
            node: 0,
            class: CoreClass::Uniform,
        });
        Ok(id)
    }

    fn finish(
        mut self,
        classes: &[(CoreClass, Vec<usize>)],
    ) -> Result<(Topology, Vec<usize>), RecordedError> {
        if self.cpus.is_empty() {
            return Err(RecordedError::Format("it holds no CPU (PU)".into()));
        }
        self.cpus.sort_by_key(|cpu| cpu.id);
        let firsts: Vec<(usize, usize)> = self.cpus.iter().rev().map(|cpu| (cpu.core, cpu.id)).collect();
        let first: std::collections::HashMap<usize, usize> = firsts.into_iter().collect();
        for cpu in &mut self.cpus {
            cpu.core = first.get(&cpu.core).copied().unwrap_or(cpu.id);
            let node = self.nodes.iter().find(|(_, cpus)| cpus.contains(&cpu.id));
            cpu.node = node.map_or(0, |(node, _)| *node);
            let class = classes.iter().find(|(_, cpus)| cpus.contains(&cpu.id));
            cpu.class = class.map_or(CoreClass::Uniform, |(class, _)| *class);
        }
        self.caches
            .sort_by_key(|cache| (cache.level, cache.cpus.first().copied()));
        let allowed = match self.allowed {
            Some(mut allowed) => {
                allowed.retain(|id| self.cpus.iter().any(|cpu| cpu.id == *id));
                allowed
            }
            None => self.cpus.iter().map(|cpu| cpu.id).collect(),
        };
        let topology = Topology {
            cpus: self.cpus,
            caches: self.caches,
            origin: Origin::Given,
        };
        Ok((topology, allowed))
    }
}

/// The kinds of cores of a hybrid processor.
fn classes(root: Node<'_, '_>) -> Result<Vec<(CoreClass, Vec<usize>)>, RecordedError> {
    let mut found = Vec::new();
    for kind in root.children().filter(|n| n.has_tag_name("cpukind")) {
        let name = kind
            .children()
            .find(|n| n.attribute("name") == Some("CoreType"))
            .and_then(|n| n.attribute("value"));
        let class = match name {
            Some("IntelCore") => CoreClass::Performance,
            Some("IntelAtom") => CoreClass::Efficiency,
            _ => continue,
        };
        found.push((class, set(kind, "cpuset")?));
    }
    Ok(found)
}

fn value(node: Node<'_, '_>, attribute: &'static str, expected: &'static str) -> RecordedError {
    RecordedError::Value {
        line: node.document().text_pos_at(node.range().start).row,
        object: node
            .attribute("type")
            .unwrap_or(node.tag_name().name())
            .to_owned(),
        attribute,
        value: node.attribute(attribute).unwrap_or_default().to_owned(),
        expected,
    }
}

fn number(node: Node<'_, '_>, attribute: &'static str, below: usize) -> Result<usize, RecordedError> {
    let found = node.attribute(attribute).and_then(|text| text.parse().ok());
    found
        .filter(|n| *n < below)
        .ok_or_else(|| value(node, attribute, "a number below 8192"))
}

/// A set as hwloc writes it: words of 32 bits in hexadecimal, the highest first, separated by commas; ascending.
fn set(node: Node<'_, '_>, attribute: &'static str) -> Result<Vec<usize>, RecordedError> {
    let bad = || value(node, attribute, "a set of CPUs such as 0x000000ff");
    let text = node.attribute(attribute).unwrap_or_default();
    let mut cpus = Vec::new();
    for (word, text) in text.rsplit(',').enumerate() {
        // An empty word is zero.
        let digits = text.trim().trim_start_matches("0x");
        let bits = match digits {
            "" => 0,
            digits => u32::from_str_radix(digits, 16).map_err(|_| bad())?,
        };
        if bits != 0 && word >= MAX_CPUS / 32 {
            return Err(bad());
        }
        cpus.extend(
            (0..32)
                .filter(|bit| bits & (1 << bit) != 0)
                .map(|bit| word * 32 + bit),
        );
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inner: &str) -> Result<(Topology, Vec<usize>), RecordedError> {
        Topology::from_hwloc_xml(&format!(
            "<?xml version=\"1.0\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n<topology version=\"2.0\">\n{inner}\n</topology>"
        ))
    }

    #[test]
    fn sets_have_words_of_32_bits() {
        let pu = |id| format!("<object type=\"PU\" os_index=\"{id}\"/>");
        let machine = format!(
            "<object type=\"Machine\" allowed_cpuset=\"0x00000100,,0x00000003\">{}{}{}</object>",
            pu(0),
            pu(1),
            pu(72)
        );
        let (topology, allowed) = read(&machine).unwrap();
        assert_eq!(allowed, [0, 1, 72]);
        assert_eq!(topology.cores(), 3, "each CPU without a core is one");
    }

    #[test]
    fn what_is_no_export_is_said() {
        let text = |result: Result<_, RecordedError>| {
            result
                .map(|_: (Topology, Vec<usize>)| ())
                .unwrap_err()
                .to_string()
        };
        assert!(text(Topology::from_hwloc_xml("hello")).contains("lstopo"));
        assert!(text(Topology::from_hwloc_xml("<svg/>")).contains("<svg>"));
        assert!(text(Topology::from_hwloc_xml("<topology/>")).contains("hwloc 1"));
        assert!(text(read("<object type=\"Machine\"/>")).contains("no CPU"));
        let e = text(read(
            "<object type=\"Machine\"><object type=\"PU\" os_index=\"9999\"/></object>",
        ));
        assert!(e.contains("line 4") && e.contains("9999"), "{e}");
        let twice = "<object type=\"PU\" os_index=\"1\"/>".repeat(2);
        assert!(text(read(&format!("<object type=\"Machine\">{twice}</object>"))).contains("no other PU"));
        let e = text(read(
            "<cpukind cpuset=\"0xzz\"><info name=\"CoreType\" value=\"IntelAtom\"/></cpukind>",
        ));
        assert!(e.contains("cpukind") && e.contains("0xzz"), "{e}");
    }
}
