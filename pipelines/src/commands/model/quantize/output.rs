//! Where the quantized model goes.

use std::path::Path;

use crate::commands::whole::folder;
use crate::failure::Failure;

/// Fails early where the model cannot be written in the end, or would take the place of the one it is made from.
pub fn check(model: &Path, output: &Path) -> Result<(), Failure> {
    let refused = |why: &str| Err(Failure::usage(format!("-o {}: {why}", output.display())));
    let xml = output.extension().is_some_and(|e| e.eq_ignore_ascii_case("xml"));
    if !xml {
        return refused("expected the name of an .xml file; the weights go to the .bin beside it");
    }
    if output.is_dir() {
        return refused("it is a folder; name a file in it");
    }
    let folder = folder(output);
    let place = |path: &Path| {
        Some(
            crate::commands::whole::folder(path)
                .canonicalize()
                .ok()?
                .join(path.file_name()?),
        )
    };
    let target = |path: &Path| path.canonicalize().ok().or_else(|| place(path));
    for ending in ["xml", "bin"] {
        let (from, to) = (
            target(&model.with_extension(ending)),
            target(&output.with_extension(ending)),
        );
        if from.is_some() && from == to {
            return refused("it is the model that is to be quantized; choose another name");
        }
    }
    tempfile::Builder::new()
        .prefix(".flowrun-")
        .tempfile_in(folder)
        .map(drop)
        // The text of the error names a random file.
        .map_err(|e| Failure::file("write to", folder, e.kind()))
}
