<?php
// One line for each variable of the request.
header('Content-Type: text/plain');
foreach ($_SERVER as $name => $value) {
    if (is_string($value)) {
        echo "$name=$value\n";
    }
}
