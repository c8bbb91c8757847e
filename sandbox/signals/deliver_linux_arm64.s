#include "textflag.h"

// deliver is a signal handler: write(deliverTo, &number, 4). The kernel calls it on the thread's alternate stack, with the
// number in R0, all signals blocked, and no g in place; it brings back every register but the stack's itself (sigreturn(2)).
TEXT ·deliver(SB), NOSPLIT|NOFRAME, $0
	SUB	$16, RSP
	MOVW	R0, 0(RSP)
	MOVD	$64, R8 // SYS_WRITE
	MOVW	·deliverTo(SB), R0
	MOVD	RSP, R1
	MOVD	$4, R2
	SVC
	ADD	$16, RSP
	RET

DATA ·deliverPC(SB)/8, $·deliver(SB)
GLOBL ·deliverPC(SB), RODATA, $8
