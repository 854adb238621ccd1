<?php
// Answers frames of tests that look at when PHP is done with each, and hears of the end of connections. The beginning and
// the end of each are noted in the file NOTES, a line each, by client and by the first bytes of what it says.

declare(strict_types=1);

/** Adds a line to the file. */
function note(string $line): void
{
    file_put_contents(getenv('NOTES'), "$line\n", FILE_APPEND | LOCK_EX);
}

$client = $_POST['client_id'] ?? '-'; // nobody says so in what the plugin `events` asks
if (($_POST['type'] ?? '') === 'close') {
    note("$client close {$_POST['code']}");
    exit;
}
$message = $_POST['message'];
$what = substr($message, 0, 20);
note("$client begin $what");
if (str_starts_with($message, 'slow')) {
    usleep(20_000);
}
// Until the test lets go.
while (str_starts_with($message, 'hold') && !file_exists(getenv('NOTES') . '.go')) {
    usleep(1000);
}
note("$client end $what");
echo $what, ' (', strlen($message), ')';
