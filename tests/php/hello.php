<?php
// Checks examples/hello/websocket.php by itself, without gateway, PHP-FPM or web server: php tests/php/hello.php
//
// Each request runs the script in a PHP process of its own, as PHP-FPM would. A push arrives at a socket of this test,
// which answers in the gateway's place.

declare(strict_types=1);

const SCRIPT = __DIR__ . '/../../examples/hello/websocket.php';

/** Starts the script on a form; its end is read by finish(). */
function start(array $form, string $push = 'http://127.0.0.1:9/send')
{
    $code = '$_POST = json_decode($argv[1], true); ob_start(); require $argv[2];'
        . 'echo json_encode([http_response_code() ?: 200, ob_get_clean()]);';
    $environment = ['AILERON_PUSH' => $push, 'PATH' => getenv('PATH')];
    $process = proc_open(
        [PHP_BINARY, '-d', 'display_errors=stderr', '-r', $code, '--', json_encode($form), SCRIPT],
        [1 => ['pipe', 'w']],
        $pipes,
        null,
        $environment,
    );

    return [$process, $pipes[1]];
}

/** The status and the body that the script answers with. */
function finish(array $run): array
{
    $output = stream_get_contents($run[1]);
    proc_close($run[0]);

    return json_decode($output, true) ?? throw new RuntimeException("the script printed: $output");
}

/** Reads one HTTP request from a socket, answers it, and gives its form and content type. */
function serve($listener, string $status, string $body): array
{
    $connection = stream_socket_accept($listener, 10) ?: throw new RuntimeException('nobody pushed');
    $head = '';
    while (!str_ends_with($head, "\r\n\r\n")) {
        $head .= fgets($connection) ?: throw new RuntimeException("half a request: $head");
    }
    preg_match('/^content-length: *(\d+)/mi', $head, $length);
    parse_str(stream_get_contents($connection, (int) $length[1]), $form);
    fwrite($connection, "HTTP/1.1 $status\r\nContent-Length: " . strlen($body) . "\r\nConnection: close\r\n\r\n$body");

    return [strtok($head, "\r\n"), $form];
}

function check(string $what, mixed $seen, mixed $expected): void
{
    if ($seen !== $expected) {
        fwrite(STDERR, "FAIL  $what\nseen: " . var_export($seen, true) . "\nnot:  " . var_export($expected, true) . "\n");
        exit(1);
    }
    echo "ok    $what\n";
}

// From the gateway: the answer names the client.
$id = '127.0.0.1:51110';
$server = ['type' => 'server', 'client_id' => $id];
check('name', finish(start($server + ['message' => 'name'])), [200, "Orville to $id"]);
check('anything else', finish(start($server + ['message' => '<b>'])), [200, "default to $id"]);
check('an empty message', finish(start($server + ['message' => ''])), [200, "default to $id"]);

// Forms that are not whole.
check('no form', finish(start([])), [200, 'something wrong']);
check('no message', finish(start($server)), [200, 'something wrong']);
check('no client', finish(start(['type' => 'client', 'message' => 'x'])), [200, 'something wrong']);
check('no type', finish(start(['client_id' => $id, 'message' => 'x'])), [200, 'something wrong']);
check('a list for a text', finish(start(['type' => ['server'], 'client_id' => $id, 'message' => 'x'])), [200, 'something wrong']);

// Pushes: what is special to a form or a shell arrives as it was.
$listener = stream_socket_server('tcp://127.0.0.1:0');
$push = 'http://' . stream_socket_get_name($listener, false) . '/send';
$message = "50% & more=1 \"'; \$(id) `id` +\n翼 🪽";
$run = start(['type' => 'client', 'client_id' => $id, 'message' => $message], $push);
[$line, $form] = serve($listener, '200 OK', 'Message sent');
check('a push asks for', $line, 'POST /send HTTP/1.1');
check('a push carries', $form, ['message' => $message, 'client_id' => $id, 'type' => 'client']);
check("the gateway's answer is passed on", finish($run), [200, 'Message sent']);

$run = start(['type' => 'client', 'client_id' => 'nobody', 'message' => 'x'], $push);
serve($listener, '404 Not Found', 'Client not found');
check("the gateway's refusal is passed on", finish($run), [404, 'Client not found']);

fclose($listener);
[$status, $body] = finish(start(['type' => 'client', 'client_id' => $id, 'message' => 'x'], $push));
check('no gateway: status', $status, 502);
check('no gateway: words', str_starts_with($body, 'the gateway cannot be reached: '), true);
