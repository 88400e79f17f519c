//! Where the link editor puts what, in the release for musl: see `script`. The tests, whose panics unwind, are linked as ever.

use std::{env, fs, path::Path};

/// The code that every shim runs, by parts of its symbols' names (length and name of a path's parts, in either way that Rust
/// mangles them). Wherever it lies, each 64 KiB of the file that are touched cost a page fault of some 3 µs; side by side it is
/// four of them, among all the rest it was twelve. A name that is missing here, or that nothing has, only costs time.
const ROAD: &str = "3bkt6client 3bkt5proto 3bkt3sys bkt..sys 3bkt7process 3bkt5event 3bkt4opid 3bkt10invocation 3bkt9container7claimed \
    3bkt5paths 3bkt6applet4shim 3bkt6applet4find 3bkt6applet3run 3bkt6applet4Call 3bkt6applet9distrobox6is_one 8postcard \
    10serde_core 8dlmalloc 4core5slice core..slice 4core3ptr 4core3str 4core4iter core..iter..adapters..chain \
    core..iter..adapters..map 4core3ops core..ops 4core3ffi 4core6option core..option 4core6result 4core4char 5alloc3vec \
    alloc..vec 5alloc7raw_vec alloc..raw_vec 5alloc3str 3std4sync 3std3sys2fs 3std2fs8metadata 3std7process4exit \
    3std3sys4exit 3std2rt 3std9panicking8set_hook";

/// For ld and lld, beside their own script: `INSERT` says so.
///
/// - The tables that say how a stack is unwound (`.eh_frame` and `.gcc_except_table`) are left out: a tenth of the executable. They
///   come with Rust's own library, which is built for programs that unwind. Ours does not (see `src/sys/entry.rs`), and nothing in
///   it can read them. The C run-time's own files mark where the tables begin and end, and keep their marks.
/// - The code of the road comes first, with the C library's.
/// - The allocator's arena comes last: what else a program of ours has in memory is on the page before it, then.
fn script() -> String {
    let road: String = ROAD.split_whitespace().map(|part| format!("*(.text.*{part}*) ")).collect();
    format!(
        "SECTIONS {{ /DISCARD/ : {{ *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame) *(.gcc_except_table .gcc_except_table.*) }} }} INSERT BEFORE .init;\n\
         SECTIONS {{ .text.road : {{ {road} *(.text.OUTLINED_FUNCTION_*) *libc.a:*(.text .text.*) *crt1.o(.text) }} }} INSERT BEFORE .text;\n\
         SECTIONS {{ .bss.arena : {{ *(.bss.*9allocator5ARENA*) }} }} INSERT AFTER .bss;\n"
    )
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        let file = Path::new(&env::var_os("OUT_DIR").expect("cargo names the directory")).join("order.ld");
        fs::write(&file, script()).expect("the build directory can be written to");
        // A C compiler hands on what stands behind its -Wl; a linker that is called by itself does not know the word.
        let by_itself = env::var("RUSTC_LINKER").is_ok_and(|linker| linker.ends_with("ld"));
        for option in ["--no-eh-frame-hdr", &format!("--script={}", file.display())] {
            println!("cargo:rustc-link-arg-bins={}{option}", if by_itself { "" } else { "-Wl," });
        }
    }
}
