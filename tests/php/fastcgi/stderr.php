<?php
// Error text before, within and after the answer.
error_log('first words');
echo 'the ';
flush();
error_log("second\nthird " . str_repeat('x', 2000));
echo 'answer';
flush();
for ($i = 0; $i < 50; $i++) {
    error_log("line $i");
}
