<?php
// The FPM child that answers, after so many milliseconds.
usleep(1000 * (int) ($_GET['wait'] ?? 0));
echo getmypid();
