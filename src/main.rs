//! Capture the invocation, find the applet, end as it says.
#![no_main]

bkt::entry!(bkt::applet::run);
