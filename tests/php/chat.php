<?php
// Checks examples/chat/websocket.php by itself, without gateway, PHP-FPM or nginx: php tests/php/chat.php
//
// PHP's own web server runs the script, as cookies and headers are half of what it does. What it asks of the gateway
// arrives at a socket of this test, which answers in the gateway's place.

declare(strict_types=1);

const SCRIPT = __DIR__ . '/../../examples/chat/websocket.php';

$gateway = stream_socket_server('tcp://127.0.0.1:0');
$sessions = sys_get_temp_dir() . '/chat-' . bin2hex(random_bytes(8));
mkdir($sessions, 0700);

/** Starts a server on a port that was free a moment ago; gives the process and its address. */
function serve_php(string $sessions, string $gateway): array
{
    $free = stream_socket_server('tcp://127.0.0.1:0');
    $address = stream_socket_get_name($free, false);
    fclose($free);
    $options = ['-d', 'display_errors=stderr', '-d', 'log_errors=0', '-d', "session.save_path=$sessions"];
    $process = proc_open(
        [PHP_BINARY, ...$options, '-q', '-S', $address, SCRIPT],
        [],
        $pipes,
        null,
        ['AILERON_URL' => "http://$gateway"],
    );
    for ($deadline = time() + 10; !($connection = @stream_socket_client("tcp://$address")); usleep(10_000)) {
        time() < $deadline || throw new RuntimeException('PHP does not serve');
    }
    fclose($connection);

    return [$process, $address];
}

// Two, since each answers one request at a time.
$servers = [];
register_shutdown_function(function () use (&$servers, $sessions) {
    foreach ($servers as [$process]) {
        proc_terminate($process);
        proc_close($process);
    }
    array_map(unlink(...), glob("$sessions/*"));
    rmdir($sessions);
});
for ($count = 0; $count < 2; $count++) {
    $servers[] = serve_php($sessions, stream_socket_get_name($gateway, false));
}

/** Sends a form, or asks without one, to the servers in turn; the answer is read by finish(). */
function start(array $form, string $cookie = '', string $more = '')
{
    global $servers;
    $servers[] = array_shift($servers);
    $body = http_build_query($form);
    $connection = stream_socket_client("tcp://{$servers[0][1]}", timeout: 10);
    fwrite($connection, ($form ? 'POST' : 'GET') . " /websocket.php HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n"
        . ($cookie ? "Cookie: chat=$cookie\r\n" : '') . $more
        . "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " . strlen($body) . "\r\n\r\n$body");

    return $connection;
}

/** The status, the JSON, the headers for the gateway, and the cookie that the script answers with. */
function finish($connection): array
{
    stream_set_timeout($connection, 10);
    [$head, $body] = explode("\r\n\r\n", stream_get_contents($connection), 2);
    preg_match_all('/^Aileron-(.*?)\r?$/m', $head, $gateway);
    preg_match('/^Set-Cookie: (.*?)\r?$/m', $head, $cookie);

    return [(int) explode(' ', $head)[1], json_decode($body, true), $gateway[1], $cookie[1] ?? ''];
}

/** All of it but the cookie. */
function ask(array $form, string $cookie = '', string $more = ''): array
{
    return array_slice(finish(start($form, $cookie, $more)), 0, 3);
}

/** Answers a request of the script in the gateway's place; gives its first line and its body. */
function serve(string $json): array
{
    global $gateway;
    $connection = stream_socket_accept($gateway, 10) ?: throw new RuntimeException('nobody asks the gateway');
    $head = '';
    while (!str_ends_with($head, "\r\n\r\n")) {
        $head .= fgets($connection) ?: throw new RuntimeException("half a request: $head");
    }
    $body = preg_match('/^content-length: *(\d+)/mi', $head, $length)
        ? stream_get_contents($connection, (int) $length[1])
        : '';
    fwrite($connection, "HTTP/1.1 200 OK\r\nContent-Length: " . strlen($json) . "\r\nConnection: close\r\n\r\n$json");

    return [strtok($head, "\r\n"), json_decode($body, true)];
}

function check(string $what, mixed $seen, mixed $expected): void
{
    if ($seen !== $expected) {
        fwrite(STDERR, "FAIL  $what\nseen: " . var_export($seen, true) . "\nnot:  " . var_export($expected, true) . "\n");
        exit(1);
    }
    echo "ok    $what\n";
}

$refused = fn(string $reason, int $status = 200) => [$status, ['type' => 'refused', 'reason' => $reason], []];

// Nobody is logged in.
check('asking begins no session', finish(start([])), [200, ['user' => null], [], '']);
check('a connection without a login', ask(['type' => 'open', 'client_id' => 'a']), $refused('Log in first.', 401));
check(
    'a message without a login',
    ask(['type' => 'server', 'client_id' => 'a', 'message' => '{"type":"who"}', 'attributes' => ['user' => 'ann']]),
    [204, null, ['Close: 4001 logged out']],
);

// Logging in.
$name_rule = $refused('A name has 1 to 30 visible characters and no spaces around them.', 422);
foreach (['', ' ann', "ann\u{2003}", "a\nb", "a\u{202e}b", "\xff", str_repeat('é', 31)] as $name) {
    check('no name: ' . json_encode($name, JSON_INVALID_UTF8_SUBSTITUTE), ask(['type' => 'login', 'name' => $name]), $name_rule);
}
check(
    'a login by another site',
    ask(['type' => 'login', 'name' => 'ann'], '', "Sec-Fetch-Site: cross-site\r\n"),
    $refused('Log in on the page of the chat.', 403),
);
$user = 'Ann & Zoë, 翼';
$planted = str_repeat('a', 32);
[$status, $answer, , $cookie] = finish(start(['type' => 'login', 'name' => $user], $planted, "Sec-Fetch-Site: same-origin\r\n"));
check('a login', [$status, $answer], [200, ['user' => $user]]);
check('its cookie is for HTTP alone', preg_match('/^chat=([^;]+); path=\/; HttpOnly; SameSite=Lax$/i', $cookie, $id), 1);
check('its id is a new one', $id[1] === $planted, false);
$id = $id[1];
check('who is logged in', ask([], $id), [200, ['user' => $user], []]);

// Connecting.
$open = ['type' => 'open', 'client_id' => 'a', 'path' => '/ws'];
[$status, , $headers] = ask($open + ['query' => 'room=php&resume=room.php%3A1-0%3A7'], $id);
check('a connection', $status, 204);
check('it finds the other windows of its login', preg_match('/^Subscribe: (login\.[0-9a-f]{16})$/', $headers[1], $login), 1);
check('it is in a room', $headers, [
    'Attribute: user=' . urlencode($user),
    "Subscribe: $login[1]",
    'Attribute: room=php',
    'Subscribe: room.php:presence, room.php',
]);
foreach (['', 'room=', 'room=Php', 'room[]=php', 'room=a%0Ab', 'room=' . str_repeat('a', 31)] as $query) {
    check("the lobby is for: $query", ask($open + ['query' => $query], $id)[2][2], 'Attribute: room=lobby');
}

// Talking.
$say = fn(mixed $message) => [
    'type' => 'server',
    'client_id' => 'a',
    'message' => is_string($message) ? $message : json_encode($message),
    'attributes' => ['user' => $user, 'room' => 'php'],
];
$text = "<b>50% & \"more\"</b>\n翼 🪽";
[$status, $answer, $headers] = ask($say(['type' => 'say', 'text' => " $text "]), $id);
check('a message goes to the room', [$status, $headers], [200, ['Publish: room.php']]);
check('it says who and what', array_slice($answer, 0, 2), ['user' => $user, 'text' => $text]);
check('it says when', abs(time() - strtotime($answer['time'])) < 10, true);
check('the longest message', ask($say(['type' => 'say', 'text' => str_repeat('翼', 2000)]), $id)[2], ['Publish: room.php']);
foreach ([null, '', " \n", 5, ['a'], str_repeat('é', 2001)] as $index => $text) {
    check("no message: $index", ask($say(['type' => 'say', 'text' => $text]), $id), $refused('A message has 1 to 2000 characters.'));
}
foreach (['', 'hello', '"say"', '5', '[]', '{"type":["say"]}', "{\"type\":\"\xff\"}"] as $message) {
    check("not understood: $message", ask($say($message), $id), $refused('A message is of the type say, join or who.'));
}

// Rooms.
check('another room', ask($say(['type' => 'join', 'room' => 'wasm-2']), $id), [204, null, [
    'Unsubscribe: room.php, room.php:presence',
    'Attribute: room=wasm-2',
    'Subscribe: room.wasm-2:presence, room.wasm-2',
]]);
check('the same room', ask($say(['type' => 'join', 'room' => 'php']), $id), [204, null, []]);
foreach ([null, '', 'Php', "php\n", 'a.b', ['php']] as $index => $room) {
    $rule = $refused('The name of a room has 1 to 30 small letters, digits and hyphens.');
    check("no room: $index", ask($say(['type' => 'join', 'room' => $room]), $id), $rule);
}

// Who is here; meanwhile the same person's messages go on, since the session is not locked.
$who = start($say(['type' => 'who']), $id);
check('a message while PHP asks the gateway', ask($say(['type' => 'say', 'text' => 'hi']), $id)[2], ['Publish: room.php']);
[$line] = serve('{"topic":"room.php","members":[{"name":"ann","connections":2},{"name":"7","connections":1}]}');
check('who is here is asked for', $line, 'GET /topics?name=room.php HTTP/1.1');
$here = ['type' => 'here', 'room' => 'php', 'members' => ['ann', '7']];
check('who is here', array_slice(finish($who), 0, 3), [200, $here, []]);

check('a client has gone', ask(['type' => 'close', 'client_id' => 'a', 'code' => '1001'], $id), [204, null, []]);

// Logging out.
$logout = start(['type' => 'logout'], $id);
[$line] = serve('{"clients":["a","b"]}');
check('its windows are looked for', $line, "GET /topics?name=$login[1] HTTP/1.1");
[$line, $push] = serve('{"results":[]}');
check('they are closed by a push', $line, 'POST /send HTTP/1.1');
check('all of them', $push, ['client_id' => ['a', 'b'], 'close' => ['code' => 4001, 'reason' => 'logged out']]);
[$status, $answer, , $cookie] = finish($logout);
check('a logout', [$status, $answer], [200, ['user' => null]]);
check('the cookie goes', str_starts_with($cookie, 'chat=deleted'), true);
check('the session is gone', ask([], $id), [200, ['user' => null], []]);
check('messages end', ask($say(['type' => 'who']), $id), [204, null, ['Close: 4001 logged out']]);

stream_socket_shutdown($gateway, STREAM_SHUT_RDWR); // PHP's servers have it open, too
check('a logout without a gateway', ask(['type' => 'logout'], $id), [200, ['user' => null], []]);
