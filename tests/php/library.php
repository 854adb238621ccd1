<?php
// An application on `examples/php/Aileron.php`, for tests: each message asks for something else.

declare(strict_types=1);

require __DIR__ . '/../../examples/php/Aileron.php';

use Aileron\Client;
use Aileron\Gateway;
use Aileron\GatewayException;
use Aileron\GatewayWorker;
use Aileron\Opening;

function opened(Opening $client): void
{
    if ($client->query('user') === null) {
        $client->refuse(401, 'who are you?');
        return;
    }
    if (in_array('chat.v2', $client->subprotocols(), true)) {
        $client->choose('chat.v2');
    }
    $client->login($client->query('user'));
    $client->subscribe('news', 'odd, *');
    $client->reply('welcome to ' . $client->path());
}

/** What became of pushes. */
function results(array $results): array
{
    return array_map(fn ($result) => [$result->target, $result->result, $result->recipients], $results);
}

function pushed(Client $client): array
{
    $gateway = new Gateway();
    $user = $gateway->toUser($client->user(), 'for the user');

    return [
        results($gateway->toClient([$client->id, 'nobody'], 'for a client')),
        results($gateway->toTopic('news', "\xff", except: [$client->id], binary: true)),
        [$user->isDone(), $user->recipients],
        $gateway->toEveryone('for everyone', except: [$client->id])->recipients,
        $gateway->count('odd, *'),
        [$gateway->isConnected($client->id), $gateway->isConnected('nobody')],
        array_column($gateway->connections('news'), 'id') === [$client->id],
        $gateway->push([['topic' => 'none', 'message' => ['a' => 1]]], once: 'key 1')[0]->result,
    ];
}

function worked(Client $client): array
{
    $worker = new GatewayWorker();

    return [
        $worker->bindUid($client->id, 'orville & wilbur'),
        $worker->isUidOnline('orville & wilbur'),
        $worker->getClientIdByUid('orville & wilbur') === [$client->id],
        $worker->joinGroup($client->id, 'flyers'),
        $worker->getClientCountByGroup('flyers'),
        $worker->leaveGroup($client->id, 'flyers'),
        $worker->getClientCountByGroup('flyers'),
        [$worker->isOnline($client->id), $worker->isOnline('nobody'), $worker->sendToClient('nobody', 'x')],
        $worker->getAllClientIdList() === [$client->id],
    ];
}

/** What a push says that cannot be done. */
function failure(callable $push): string
{
    try {
        $push();
    } catch (GatewayException $exception) {
        return $exception->getCode() . ': ' . $exception->getMessage();
    }

    return 'none';
}

Aileron\serve([
    'open' => opened(...),
    'message' => fn (Client $client, string $message) => match ($message) {
        'who' => ['user' => $client->user(), 'id' => $client->id],
        'print' => print('printed by mistake'),
        'throw' => throw new Exception('a secret'),
        'fatal' => (fn (int $number) => $number)('no number'),
        'publish' => $client->publish(['news', 'odd, *'], 'published', toOthers: true),
        'two bodies' => [$client->reply('a'), $client->publish('news', 'b')],
        'binary' => $client->reply("\xff\0", binary: true),
        'timer' => $client->timer('tea, time', '50ms'),
        'bye' => $client->close(4001, "see\nyou"),
        'push' => pushed($client),
        'worker' => worked($client),
        'mistake' => failure(fn () => (new Gateway())->push([['no' => 1]])),
        'unreachable' => failure(fn () => (new Gateway('http://127.0.0.1:1'))->toEveryone('x')),
        'stranger' => failure(fn () => (new Gateway(token: 'wrong', signatureKey: ''))->toEveryone('x')),
        default => strtoupper($message),
    },
    'timer' => fn (Client $client, string $name) => "timer $name",
    'close' => fn (Client $client, int $code) => $client->publish('news', "gone with $code"),
]);
