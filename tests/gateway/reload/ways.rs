//! The ways in which files change: added, moved, saved by editors, turned by links, copied in pieces, on file systems
//! that give no notice.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{assert_answers, loaded, stamped};
use crate::support::{Gateway, QUICK, put, stamp};

#[tokio::test]
async fn a_plugin_is_added_replaced_renamed_and_removed_under_an_open_connection() {
    let gateway = Gateway::with_plugins(&[("20-b", &stamp(2))], QUICK).await;
    let mut client = gateway.connect().await;
    assert_answers(&mut client, 2).await;

    put(&gateway.plugin_file("10-a"), &stamp(1));
    gateway.serves("10-a", &stamp(1)).await;
    assert_answers(&mut client, 1).await;

    put(&gateway.plugin_file("10-a"), &stamp(3));
    gateway.serves("10-a", &stamp(3)).await;
    assert_answers(&mut client, 3).await;

    fs::rename(gateway.plugin_file("10-a"), gateway.plugin_file("30-a")).unwrap();
    gateway.serves("30-a", &stamp(3)).await;
    gateway.forgets("10-a").await;
    assert_answers(&mut client, 2).await;

    fs::remove_file(gateway.plugin_file("20-b")).unwrap();
    gateway.forgets("20-b").await;
    assert_answers(&mut client, 3).await;
}

/// The most common mistake of hosts that reload: a file that is being copied is taken for a broken one.
#[tokio::test]
async fn a_file_that_is_copied_in_pieces_is_taken_when_it_is_complete_and_not_before() {
    let config = "[plugins]\ndir = \"plugins\"\nsettle = \"1s\"\npoll = \"100ms\"\n";
    let gateway = Gateway::with_plugins(&[("stamp", &stamp(1))], config).await;
    let mut client = gateway.connect().await;
    let content = stamp(2);
    let (head, tail) = content.split_at(content.len() / 2);
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(gateway.plugin_file("stamp"))
        .unwrap();
    file.write_all(head).unwrap();
    // Longer than it takes to settle, with pauses that are shorter: some exchanges and a look each.
    let mut pieces = tail.chunks(1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        file.write_all(pieces.next().unwrap()).unwrap();
        for _ in 0..10 {
            assert_answers(&mut client, 1).await;
        }
        assert_eq!(gateway.plugin("stamp").await.unwrap()["state"], "serving");
    }
    for piece in pieces {
        file.write_all(piece).unwrap();
    }
    gateway.serves("stamp", &content).await;
    assert_answers(&mut client, 2).await;
    assert_eq!(gateway.count_logged(&["plugin file refused"]), 0);
    assert_eq!(loaded(&gateway).await, 2.0);
}

/// Its author is experimenting, or a broken program keeps writing to it.
#[tokio::test]
async fn a_file_that_is_written_all_the_time_does_not_hold_up_the_others() {
    // Long, so that a machine that stops the writer for a moment changes nothing.
    let config = "[plugins]\ndir = \"plugins\"\nsettle = \"2s\"\npoll = \"100ms\"\n";
    let mut gateway = Gateway::with_plugins(&[("stamp", &stamp(1))], config).await;
    let mut client = gateway.connect().await;
    let busy = gateway.plugin_file("zz-busy");
    let stop = Arc::new(AtomicBool::new(false));
    let (written, is_written) = tokio::sync::oneshot::channel();
    let writer = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut written = Some(written);
            for n in 0.. {
                fs::write(&busy, format!("not a plugin yet: {n}")).unwrap();
                written.take().map(|written| written.send(()));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    is_written.await.unwrap();
    for number in 2..4 {
        put(&gateway.plugin_file("stamp"), &stamp(number));
        gateway.serves("stamp", &stamp(number)).await;
        assert_answers(&mut client, number).await;
    }
    fs::remove_file(gateway.plugin_file("stamp")).unwrap();
    gateway.forgets("stamp").await;
    assert!(gateway.plugin("zz-busy").await.is_none(), "it has not settled");
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    gateway.logged(&["ERROR", "plugin file refused", "zz-busy"]).await;
}

/// A new file beside it, the old one kept as a backup, the new one put in its place.
#[tokio::test]
async fn a_file_is_saved_as_editors_save() {
    let (gateway, mut client) = stamped().await;
    let file = gateway.plugin_file("stamp");
    let swap = gateway.plugins().join(".stamp.wasm.swp");
    fs::write(&swap, stamp(2)).unwrap();
    fs::rename(&file, gateway.plugins().join("stamp.wasm~")).unwrap();
    fs::rename(&swap, &file).unwrap();
    gateway.serves("stamp", &stamp(2)).await;
    assert_answers(&mut client, 2).await;
    assert_eq!(gateway.chain().await.len(), 2, "the backup is no plugin");
}

#[tokio::test]
async fn the_same_content_again_is_no_reload() {
    let (gateway, mut client) = stamped().await;
    let file = gateway.plugin_file("stamp");
    put(&file, &stamp(1));
    fs::write(&file, stamp(1)).unwrap();
    let touched = fs::File::options().write(true).open(&file).unwrap();
    touched.set_modified(std::time::SystemTime::now()).unwrap();
    // When a later change has been taken up, the earlier ones have been looked at.
    put(&gateway.plugin_file("zz-later"), &stamp(2));
    gateway.serves("zz-later", &stamp(2)).await;
    assert_eq!(loaded(&gateway).await, 2.0, "each of the two once");
    assert_answers(&mut client, 1).await;
}

#[tokio::test]
async fn a_link_that_is_turned_to_another_file_is_a_new_version() {
    let releases = TempDir::new().unwrap();
    for number in [1, 2] {
        fs::write(releases.path().join(number.to_string()), stamp(number)).unwrap();
    }
    let gateway = Gateway::with_plugins(&[], QUICK).await;
    let mut client = gateway.connect().await;
    for number in [1, 2, 1] {
        turn(
            &gateway.plugin_file("stamp"),
            &releases.path().join(number.to_string()),
        );
        gateway.serves("stamp", &stamp(number)).await;
        assert_answers(&mut client, number).await;
    }
}

#[tokio::test]
async fn the_directory_itself_may_be_a_link_that_is_turned() {
    let dir = TempDir::new().unwrap();
    for number in [1, 2] {
        let release = dir.path().join(number.to_string());
        fs::create_dir(&release).unwrap();
        fs::write(release.join("stamp.wasm"), stamp(number)).unwrap();
    }
    symlink("1", dir.path().join("plugins")).unwrap();
    let gateway = Gateway::start_in(dir, QUICK).await;
    let mut client = gateway.connect().await;
    assert_answers(&mut client, 1).await;
    turn(&gateway.plugins(), Path::new("2"));
    gateway.serves("stamp", &stamp(2)).await;
    assert_answers(&mut client, 2).await;
    // What it points to now is watched.
    put(&gateway.plugin_file("stamp"), &stamp(3));
    gateway.serves("stamp", &stamp(3)).await;
    assert_answers(&mut client, 3).await;
}

#[tokio::test]
async fn while_the_directory_is_gone_what_served_goes_on_and_a_new_one_is_taken_up() {
    let (mut gateway, mut client) = stamped().await;
    // At once: taken away file by file, it would for a moment be a directory without plugins, which is taken up.
    let away = gateway.plugins().with_extension("away");
    fs::rename(gateway.plugins(), away).unwrap();
    gateway.logged(&["ERROR", "the plugin directory is gone"]).await;
    assert_answers(&mut client, 1).await;
    fs::create_dir(gateway.plugins()).unwrap();
    put(&gateway.plugin_file("stamp"), &stamp(2));
    gateway.serves("stamp", &stamp(2)).await;
    assert_answers(&mut client, 2).await;
    gateway.logged(&["INFO", "the plugin directory is back"]).await;
}

/// A volume is gone for a moment, or somebody has closed a directory on the way to the file.
#[tokio::test]
async fn a_link_that_leads_nowhere_for_a_while_takes_no_plugin_out_of_the_chain() {
    let store = TempDir::new().unwrap();
    let (volume, away) = (store.path().join("volume"), store.path().join("away"));
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("stamp"), stamp(1)).unwrap();
    let mut gateway = Gateway::with_plugins(&[], QUICK).await;
    symlink(volume.join("stamp"), gateway.plugin_file("stamp")).unwrap();
    gateway.serves("stamp", &stamp(1)).await;
    let mut client = gateway.connect().await;
    fs::rename(&volume, &away).unwrap();
    gateway
        .logged(&[
            "ERROR",
            "plugin file refused",
            "cannot be read",
            "goes on serving",
        ])
        .await;
    assert_answers(&mut client, 1).await;
    fs::rename(&away, &volume).unwrap();
    gateway
        .logged(&["INFO", "again has the content that serves"])
        .await;
    assert_answers(&mut client, 1).await;
    // A directory in its place does not count as a removal either.
    fs::remove_file(gateway.plugin_file("stamp")).unwrap();
    fs::create_dir(gateway.plugin_file("stamp")).unwrap();
    gateway
        .logged(&["ERROR", "plugin file refused", "it is not a file"])
        .await;
    assert_answers(&mut client, 1).await;
    fs::remove_dir(gateway.plugin_file("stamp")).unwrap();
    gateway.forgets("stamp").await;
}

/// No notice comes for a file outside the directory.
#[tokio::test]
async fn a_change_without_a_notice_is_found_by_looking() {
    let elsewhere = TempDir::new().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, stamp(1)).unwrap();
    let gateway = Gateway::with_plugins(&[], QUICK).await;
    let mut client = gateway.connect().await;
    symlink(&target, gateway.plugin_file("stamp")).unwrap();
    gateway.serves("stamp", &stamp(1)).await;
    fs::write(&target, stamp(2)).unwrap();
    gateway.serves("stamp", &stamp(2)).await;
    assert_answers(&mut client, 2).await;
}

#[tokio::test]
async fn a_notice_is_enough_without_looking() {
    let config = "[plugins]\ndir = \"plugins\"\nsettle = \"20ms\"\npoll = \"1h\"\n";
    let gateway = Gateway::with_plugins(&[("stamp", &stamp(1))], config).await;
    let mut client = gateway.connect().await;
    for number in 2..5 {
        put(&gateway.plugin_file("stamp"), &stamp(number));
        gateway.serves("stamp", &stamp(number)).await;
        assert_answers(&mut client, number).await;
    }
    fs::write(gateway.plugin_file("stamp"), stamp(5)).unwrap();
    gateway.serves("stamp", &stamp(5)).await;
    fs::remove_file(gateway.plugin_file("stamp")).unwrap();
    gateway.forgets("stamp").await;
}

/// Turns a link in one step, as `ln -s` and `mv -T` do.
fn turn(link: &Path, target: &Path) {
    let fresh = link.with_extension("fresh");
    symlink(target, &fresh).unwrap();
    fs::rename(fresh, link).unwrap();
}
