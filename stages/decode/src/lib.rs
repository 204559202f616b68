//! Sources and decoders: container and codec parsers, files, folders, synthetic scenes.
#![deny(missing_docs)]
