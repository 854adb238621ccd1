<?php
// Answers frames of tests. The message says what is wanted.

$message = $_POST['message'] ?? '';
[$wish, $argument] = explode(':', $message, 2) + [1 => ''];

match ($wish) {
    // The form as PHP sees it, in the order of its fields.
    'fields' => print json_encode(array_keys($_POST)) . ' ' . ($_SERVER['CONTENT_TYPE'] ?? '') . ' ' . $_POST['type'],
    'raw' => print file_get_contents('php://input'),
    'authorization' => print $_SERVER['HTTP_AUTHORIZATION'] ?? '',
    'hex' => print bin2hex($argument),
    'empty' => null,
    'odd' => print "odd \xff byte",
    'status' => [http_response_code((int) $argument), print "status $argument"],
    'sleep' => [usleep((int) $argument * 1000), print "slept $argument"],
    'long' => print str_repeat('x', (int) $argument),
    // Each byte becomes three where the answer must be text.
    'odd-long' => print str_repeat("\xff", (int) $argument),
    'die' => [exec('kill -9 ' . getmypid()), sleep(10)],
    'length' => print strlen($argument),
    // Anything else comes back as it was.
    default => print $message,
};
