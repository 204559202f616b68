//! How much time of CPUs the control group grants.

use std::path::Path;

/// CPUs' worth of time that the control groups grant this process, where they limit it: the least of what its group
/// and the groups above it grant (`cpu.max` of cgroup v2, `cpu.cfs_quota_us` of v1).
pub fn cpu_quota() -> Option<f64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    granted(&groups, Path::new("/sys/fs/cgroup"))
}

/// The least quota along the groups that `groups` names, as `/proc/self/cgroup` does, below the folder `root`.
fn granted(groups: &str, root: &Path) -> Option<f64> {
    let mut least: Option<f64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let hierarchy = match controllers {
            "" => root.to_path_buf(),
            v1 if v1.split(',').any(|controller| controller == "cpu") => root.join(v1),
            _ => continue,
        };
        // Inside a container the group's own folder is the root that it sees.
        let inner = Path::new(group.trim_start_matches('/'));
        for folder in inner.ancestors() {
            if let Some(quota) = quota_of(&hierarchy.join(folder)) {
                least = Some(least.map_or(quota, |least| least.min(quota)));
            }
        }
    }
    least
}

/// The quota of one group.
fn quota_of(folder: &Path) -> Option<f64> {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    if let Some(both) = text("cpu.max") {
        return parse_quota(&both);
    }
    let (quota, period) = (text("cpu.cfs_quota_us")?, text("cpu.cfs_period_us")?);
    parse_quota(&format!("{} {}", quota.trim(), period.trim()))
}

/// `quota period` in microseconds; `max` or a negative quota: no limit.
fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0 && quota > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn quotas_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_quota("150000 100000\n"), Some(1.5));
        for unlimited in ["max 100000", "1 0", "-1 100000", ""] {
            assert_eq!(parse_quota(unlimited), None, "{unlimited}");
        }
    }

    #[test]
    fn a_group_above_may_grant_less() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "pod/cpu.max", "150000 100000\n");
        write(root, "pod/run/cpu.max", "400000 100000\n");
        assert_eq!(granted("0::/pod/run\n", root), Some(1.5));
        assert_eq!(granted("0::/elsewhere\n", root), None);
        // A container that sees its own group as the root.
        write(root, "cpu.max", "50000 100000\n");
        assert_eq!(granted("0::/\n", root), Some(0.5));
    }

    #[test]
    fn version_one_has_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n");
        write(root, "cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
        write(root, "cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
        write(root, "cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        let groups = "5:memory:/job\n4:cpu,cpuacct:/job\n";
        assert_eq!(granted(groups, root), Some(2.5));
    }
}
