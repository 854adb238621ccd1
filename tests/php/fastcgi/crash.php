<?php
// Leaves a line in a file, then the child dies.
file_put_contents($_SERVER['HTTP_X_FILE'], "ran\n", FILE_APPEND);
exec('kill -9 ' . getmypid());
sleep(10);
