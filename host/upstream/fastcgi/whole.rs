//! A long request goes out whole once it has begun. PHP-FPM runs the script with whatever it has got of a body when the
//! connection ends, and nothing in FastCGI can stop it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::connection::{Connection, Outgoing};
use super::fault::Fault;
use super::{Permit, Settings};
use crate::message::Response;

/// Makes an exchange in a task of its own, which goes on until the request is sent if the future is dropped: at most as
/// long as the upstream's `timeout` once more.
pub(super) async fn exchange(
    connection: Connection,
    outgoing: Arc<Outgoing>,
    settings: Arc<Settings>,
    permit: Permit,
) -> Result<(Response, Option<Connection>), Fault> {
    let (mut tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let end = connection.exchange(&outgoing, &settings, tell.closed()).await;
        drop(permit);
        // Perhaps nobody waits for it.
        let _ = tell.send(end);
    });
    told.await.unwrap_or(Err(Fault::Closed))
}
