<?php
// An application behind the built-in plugin `application`, as tests want it. Each request is noted in the file NOTES, a
// JSON object a line, if there is one.

declare(strict_types=1);

if ($notes = getenv('NOTES')) {
    $line = json_encode(['form' => $_POST, 'key' => $_SERVER['HTTP_IDEMPOTENCY_KEY'] ?? null]);
    file_put_contents($notes, "$line\n", FILE_APPEND | LOCK_EX);
}

/** Answers with the headers, the status and the body of a wish in JSON. */
function answer(array $wish): void
{
    usleep(1000 * ($wish['sleep'] ?? 0));
    http_response_code($wish['status'] ?? 200);
    foreach ($wish['headers'] ?? [] as $header) {
        header($header, false);
    }
    echo $wish['body'] ?? '';
}

/** What only a PHP session knows. */
function user(): string
{
    session_start(['read_and_close' => true]);

    return $_SESSION['user'] ?? 'nobody';
}

switch ($_POST['type'] ?? '') {
    case 'login': // from a page, by plain HTTP
        session_start();
        $_SESSION['user'] = $_POST['user'];
        echo 'hello ', $_POST['user'];
        break;
    case 'open': // the query is the wish
        parse_str($_POST['query'], $query);
        if (isset($query['choose'])) {
            header('Aileron-Subprotocol: ' . (in_array('chat.v2', $_POST['subprotocols'] ?? [], true) ? 'chat.v2' : 'none'));
        }
        if (isset($query['begin'])) {
            session_start();
            $_SESSION['user'] = $query['begin'];
        }
        if (isset($query['session'])) {
            header('Aileron-Attribute: user=' . urlencode(user()));
        }
        answer(json_decode($query['wish'] ?? '{}', true));
        break;
    case 'server':
        $wish = json_decode($_POST['message'], true);
        match (true) {
            $_POST['message'] === 'whoami' => print user(),
            $_POST['message'] === 'post' => print json_encode($_POST),
            str_starts_with($_POST['message'], 'HTTP_') => print $_SERVER[$_POST['message']] ?? '',
            is_array($wish) => answer($wish),
            default => print $_POST['message'],
        };
        break;
    case 'timer':
        echo 'timer ', $_POST['name'], ' of ', $_POST['attributes']['user'] ?? 'nobody';
        break;
    case 'close':
        header('Aileron-Publish: closings');
        echo json_encode($_POST);
        break;
    case 'schedule':
        header('Aileron-Publish: ticks');
        echo $_POST['name'];
        break;
}
