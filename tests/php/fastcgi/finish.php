<?php
// Answers, and works on for so many seconds while the connection is idle already.

echo getmypid();
fastcgi_finish_request();
sleep((int) ($_GET['work'] ?? 0));
