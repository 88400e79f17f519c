//! Leaves out what only unwinding reads: a tenth of the executable.
//!
//! The tables that say how a stack is unwound (`.eh_frame` and `.gcc_except_table`) come with Rust's own library, which is built
//! for programs that unwind. Ours does not (see `src/sys/entry.rs`), and nothing in it can read them. The C run-time's own files
//! mark where the tables begin and end, and keep their marks. The tests, whose panics unwind, are linked as ever.

use std::{env, fs, path::Path};

/// For ld and lld, beside their own script: `INSERT` says so.
const WITHOUT_TABLES: &str = "SECTIONS { /DISCARD/ : { *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame) *(.gcc_except_table .gcc_except_table.*) } } INSERT BEFORE .init;\n";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        let script = Path::new(&env::var_os("OUT_DIR").expect("cargo names the directory")).join("without-tables.ld");
        fs::write(&script, WITHOUT_TABLES).expect("the build directory can be written to");
        // A C compiler hands on what stands behind its -Wl; a linker that is called by itself does not know the word.
        let by_itself = env::var("RUSTC_LINKER").is_ok_and(|linker| linker.ends_with("ld"));
        for option in ["--no-eh-frame-hdr", &format!("--script={}", script.display())] {
            println!("cargo:rustc-link-arg-bins={}{option}", if by_itself { "" } else { "-Wl," });
        }
    }
}
