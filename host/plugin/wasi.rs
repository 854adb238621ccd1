//! WASI 0.2 for plugins: everything is there and everything is denied, and nothing waits.
//!
//! The synchronous functions of wasmtime-wasi start a runtime to wait in, which is impossible on the threads of our own
//! runtime, where plugins run. The asynchronous ones need a fiber for each call. So the few functions that could wait are
//! replaced here by ones that try once: what is ready (standard output and error always are) is done, and what would wait
//! fails with an error that says so.

use futures_util::FutureExt;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::io::{error, poll as waiting_poll, streams as waiting_streams};
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sync};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};

use super::guest::Guest;

/// All of WASI 0.2 except what `sockets` adds where it is wanted. Without sockets and open directories, only the interfaces
/// of `wasi:io` can wait.
pub(super) fn add_to_linker(l: &mut Linker<Guest>) -> wasmtime::Result<()> {
    cli::environment::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)?;
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, Guest::filesystem)?;
    sync::filesystem::types::add_to_linker::<_, WasiFilesystem>(l, Guest::filesystem)?;
    random::insecure::add_to_linker::<_, WasiRandom>(l, Guest::random)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(l, Guest::random)?;
    random::random::add_to_linker::<_, WasiRandom>(l, Guest::random)?;
    error::add_to_linker::<_, Table>(l, |guest| guest.ctx().table)?;
    poll::add_to_linker::<_, Immediate<'static>>(l, view)?;
    streams::add_to_linker::<_, Immediate<'static>>(l, view)
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// The resources of an instance, with functions that do not wait.
struct Immediate<'a>(&'a mut ResourceTable);

impl HasData for Immediate<'static> {
    type Data<'a> = Immediate<'a>;
}

fn view(guest: &mut Guest) -> Immediate<'_> {
    Immediate(&mut guest.table)
}

#[derive(Debug, thiserror::Error)]
#[error("it called `{0}`, which would wait; a plugin returns `forward` instead of waiting")]
struct WouldWait(&'static str);

/// Tries once.
fn now<T>(function: &'static str, future: impl Future<Output = T>) -> Result<T, WouldWait> {
    future.now_or_never().ok_or(WouldWait(function))
}

fn now_or_trap<T>(function: &'static str, future: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    now(function, future).map_err(|e| StreamError::Trap(e.into()))?
}

impl poll::Host for Immediate<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        now("wasi:io/poll", waiting_poll::Host::poll(self.0, pollables))?
    }
}

impl poll::HostPollable for Immediate<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        now(
            "wasi:io/poll ready",
            waiting_poll::HostPollable::ready(self.0, pollable),
        )?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        now(
            "wasi:io/poll block",
            waiting_poll::HostPollable::block(self.0, pollable),
        )?
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        waiting_poll::HostPollable::drop(self.0, pollable)
    }
}

impl streams::Host for Immediate<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.0, error)
    }
}

impl streams::HostOutputStream for Immediate<'_> {
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        now(
            "wasi:io/streams drop",
            waiting_streams::HostOutputStream::drop(self.0, stream),
        )?
    }

    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        waiting_streams::HostOutputStream::check_write(self.0, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        waiting_streams::HostOutputStream::write(self.0, stream, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        let write = waiting_streams::HostOutputStream::blocking_write_and_flush(self.0, stream, bytes);
        now_or_trap("wasi:io/streams blocking-write-and-flush", write)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        let write = waiting_streams::HostOutputStream::blocking_write_zeroes_and_flush(self.0, stream, len);
        now_or_trap("wasi:io/streams blocking-write-zeroes-and-flush", write)
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        waiting_streams::HostOutputStream::subscribe(self.0, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        waiting_streams::HostOutputStream::write_zeroes(self.0, stream, len)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        waiting_streams::HostOutputStream::flush(self.0, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        let flush = waiting_streams::HostOutputStream::blocking_flush(self.0, stream);
        now_or_trap("wasi:io/streams blocking-flush", flush)
    }

    fn splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        waiting_streams::HostOutputStream::splice(self.0, to, from, len)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        let splice = waiting_streams::HostOutputStream::blocking_splice(self.0, to, from, len);
        now_or_trap("wasi:io/streams blocking-splice", splice)
    }
}

impl streams::HostInputStream for Immediate<'_> {
    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        now(
            "wasi:io/streams drop",
            waiting_streams::HostInputStream::drop(self.0, stream),
        )?
    }

    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        waiting_streams::HostInputStream::read(self.0, stream, len)
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        let read = waiting_streams::HostInputStream::blocking_read(self.0, stream, len);
        now_or_trap("wasi:io/streams blocking-read", read)
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        waiting_streams::HostInputStream::skip(self.0, stream, len)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        let skip = waiting_streams::HostInputStream::blocking_skip(self.0, stream, len);
        now_or_trap("wasi:io/streams blocking-skip", skip)
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        waiting_streams::HostInputStream::subscribe(self.0, stream)
    }
}
