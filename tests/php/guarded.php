<?php
// Answers frames and handshakes of tests that look at what reaches PHP. Each is noted in the file NOTES, a line each,
// before anything else is done.

declare(strict_types=1);

/** Adds a line to the file. */
function note(string $line): void
{
    file_put_contents(getenv('NOTES'), "$line\n", FILE_APPEND | LOCK_EX);
}

$what = match ($_POST['type']) {
    'open' => "open {$_POST['query']}",
    'close' => "close {$_POST['code']}",
    default => $_POST['message'],
};
note($what);
$deadline = (float) ($_SERVER['HTTP_AILERON_DEADLINE'] ?? INF);

/** Until the test lets go. */
function hold(): void
{
    while (!file_exists(getenv('NOTES') . '.go')) {
        usleep(1000);
    }
}

switch ($what) {
    case 'hold':
    case 'open hold':
        hold();
        break;
    case 'deadline':
        exit($_SERVER['HTTP_AILERON_DEADLINE'] ?? 'none');
    case 'work': // as long as somebody waits for it
        while (microtime(true) < $deadline) {
            usleep(1000);
        }
        note('stopped');
        hold(); // An answer could still come in time.
        break;
}
echo $what;
