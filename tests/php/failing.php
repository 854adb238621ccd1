<?php
// Fails at what it is asked twice, and takes it the third time. The key of each try is noted in the file TRIES.

$tries = getenv('TRIES');
file_put_contents($tries, $_SERVER['HTTP_IDEMPOTENCY_KEY'] . "\n", FILE_APPEND | LOCK_EX);
http_response_code(count(file($tries)) < 3 ? 503 : 200);
