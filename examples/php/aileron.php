<?php
// Functions for applications behind Aileron's plugin `application`. Copy the file.

declare(strict_types=1);

namespace Aileron;

/**
 * Sends a header whose value is a list: steer('Publish', "room.$room"), steer('Subscribe', 'news', "room.$room").
 *
 * Each item stays one name whatever it has in it. So this cannot address everyone; header('Aileron-Publish: *') does.
 */
function steer(string $header, string ...$items): void
{
    header("Aileron-$header: " . implode(', ', array_map(rawurlencode(...), $items)), false);
}
