<?php
// Pushes with a signature, as the README shows it, and prints the answer.
// php signed.php ADDRESS PATH-AND-QUERY BODY [SECONDS], with the key in the environment. The clock is SECONDS off.

[, $address, $target, $body] = $argv;
$type = 'application/x-www-form-urlencoded';
$time = sprintf('%.6F', microtime(true) + (int) ($argv[4] ?? 0));
$signature = hash_hmac('sha256', "$time\nPOST\n$target\n$type\n\n$body", getenv('SIGNATURE_KEY'));
$answer = file_get_contents("http://$address$target", false, stream_context_create(['http' => [
    'method' => 'POST',
    'header' => ["Content-Type: $type", "Aileron-Signature: t=$time,v1=$signature"],
    'content' => $body,
    'ignore_errors' => true,
]]));
echo explode(' ', $http_response_header[0])[1], ' ', $answer;
