<?php
// A chat with rooms, run by PHP-FPM. It is asked by two sides, told apart by the form's `type`:
//
//   the page, over HTTP   no form: who is logged in? type=login and type=logout change that
//   the gateway           type=open: a browser wants to connect; type=server: it said something; type=close: it is gone
//
// What is printed for the gateway goes back to that browser, and headers that begin with Aileron say what else is to be
// done. A browser may send the gateway's forms itself and wins nothing: it only gets headers that mean nothing to it.

declare(strict_types=1);

const SESSION = [
    'name' => 'chat', // cookies do not know of ports, so other applications on this host get this one, too
    'cookie_httponly' => true,
    'cookie_samesite' => 'Lax',
    'use_strict_mode' => true,
];

/** A field of the form; empty when it is missing or not a plain text. */
function field(string $name): string
{
    return is_string($_POST[$name] ?? null) ? $_POST[$name] : '';
}

/** Answers in JSON. The page shows all of it as text, so nothing is escaped for HTML. */
function answer(array $answer, int $status = 200): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($answer, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES);
}

/** Has nothing to say, at most headers. */
function done(): void
{
    http_response_code(204);
}

function refuse(string $reason, int $status = 200): void
{
    answer(['type' => 'refused', 'reason' => $reason], $status);
}

/** Asks the gateway for a page, or hands it a push. Gives its answer, an empty one when it cannot be reached. */
function gateway(string $path, ?array $push = null): array
{
    $request = curl_init((getenv('AILERON_URL') ?: 'http://127.0.0.1:8081') . $path);
    curl_setopt_array($request, [CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => 5] + ($push === null ? [] : [
        CURLOPT_HTTPHEADER => ['Content-Type: application/json'],
        CURLOPT_POSTFIELDS => json_encode($push, JSON_THROW_ON_ERROR),
    ]));

    return json_decode((string) curl_exec($request), true) ?: [];
}

/**
 * The session of who is logged in, found by the cookie that a browser sends with its WebSocket, too. It is only read,
 * without a lock, so that nobody's messages wait for each other.
 */
function session(): array
{
    if (isset($_COOKIE[SESSION['name']])) { // asking alone begins no session
        session_start(SESSION + ['read_and_close' => true]);
    }

    return $_SESSION ?? [];
}

/** Takes anybody's word for it; a real application asks for more than a name. */
function login(string $user): void
{
    if (($_SERVER['HTTP_SEC_FETCH_SITE'] ?? 'same-origin') !== 'same-origin') {
        refuse('Log in on the page of the chat.', 403); // no other site shall log its visitors in here
    } elseif (!preg_match('/^(?!\p{Z})\P{C}{1,30}(?<!\p{Z})$/uD', $user)) {
        refuse('A name has 1 to 30 visible characters and no spaces around them.', 422);
    } else {
        session_start(SESSION);
        session_regenerate_id(true); // who knows the id from before the login knows nothing
        $_SESSION = ['user' => $user, 'login' => bin2hex(random_bytes(8))];
        answer(['user' => $user]);
    }
}

/** Closes all windows of this login as well. They share a topic, only for being found. */
function logout(): void
{
    session_start(SESSION);
    $login = $_SESSION['login'] ?? '';
    session_destroy();
    setcookie(SESSION['name'], '', 1, '/');
    if ($windows = gateway("/topics?name=login.$login")['clients'] ?? []) {
        gateway('/send', ['client_id' => $windows, 'close' => ['code' => 4001, 'reason' => 'logged out']]);
    }
    answer(['user' => null]);
}

/** The room of that name; the lobby when no room can have it. */
function room(mixed $name): string
{
    return is_string($name) && preg_match('/^[a-z0-9-]{1,30}$/D', $name) ? $name : 'lobby';
}

/** Makes the client hear of who comes and goes, itself included, and then of what is said. */
function enter(string $room): void
{
    header("Aileron-Attribute: room=$room", false);
    header("Aileron-Subscribe: room.$room:presence, room.$room", false);
    done();
}

function connect(array $session): void
{
    if (!$session) {
        refuse('Log in first.', 401);
        return;
    }
    parse_str(field('query'), $query);
    header('Aileron-Attribute: user=' . urlencode($session['user']));
    header("Aileron-Subscribe: login.$session[login]");
    enter(room($query['room'] ?? null));
}

function hear(array $session): void
{
    if (!$session) {
        header('Aileron-Close: 4001 logged out'); // the session has run out meanwhile
        done();
        return;
    }
    $room = room($_POST['attributes']['room'] ?? null);
    $message = json_decode(field('message'), true);
    match ($message['type'] ?? null) {
        'say' => say($session['user'], $room, $message['text'] ?? null),
        'join' => move($room, $message['room'] ?? null),
        'who' => answer(['type' => 'here', 'room' => $room, 'members' => members($room)]),
        default => refuse('A message is of the type say, join or who.'),
    };
}

function say(string $user, string $room, mixed $text): void
{
    $text = is_string($text) ? trim($text) : '';
    if (preg_match('/^.{1,2000}$/us', $text)) {
        header("Aileron-Publish: room.$room");
        answer(['user' => $user, 'text' => $text, 'time' => date(DATE_ATOM)]);
    } else {
        refuse('A message has 1 to 2000 characters.');
    }
}

function move(string $from, mixed $to): void
{
    if (room($to) !== $to) {
        refuse('The name of a room has 1 to 30 small letters, digits and hyphens.');
    } elseif ($to !== $from) {
        header("Aileron-Unsubscribe: room.$from, room.$from:presence");
        enter($to);
    } else {
        done();
    }
}

/** Who is in a room. The page asks when it is in, so that it misses nobody who comes or goes while it asks. */
function members(string $room): array
{
    return array_column(gateway("/topics?name=room.$room")['members'] ?? [], 'name');
}

match (field('type')) {
    'login' => login(field('name')),
    'logout' => logout(),
    'open' => connect(session()),
    'server' => hear(session()),
    'close' => done(), // the gateway itself tells the room
    default => answer(['user' => session()['user'] ?? null]),
};
